"""Qwen-Image, tiny."""

import copy
from functools import cache

import torch
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from expunge.models.qwen_image import LENGTH, QwenImage
from families.parts import alive, assembled, chat_tokenizer


def model() -> QwenImage:
    return QwenImage(pipeline())


def pipeline() -> QwenImagePipeline:
    return copy.deepcopy(_pipeline())


def sample(of: QwenImagePipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    b, c, h, w = noise.shape
    given = {"num_inference_steps": steps, "true_cfg_scale": guidance, "max_sequence_length": LENGTH, "output_type": output}
    latents = of._pack_latents(noise, b, c, h, w)
    made = of(prompts, negative_prompt=[""] * b, latents=latents, height=16, width=16, **given).images
    return of._unpack_latents(made, 16, 16, of.vae_scale_factor)[:, :, 0] if output == "latent" else made


@cache
def _pipeline() -> QwenImagePipeline:
    torch.manual_seed(0)
    network = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 2.0, 0.7, 1.0],
    )
    vae.register_to_config(sample_size=16)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    made = assembled(
        QwenImagePipeline,
        transformer=alive(network),
        vae=vae.eval(),
        scheduler=scheduler,
        text_encoder=_encoder(),
        tokenizer=chat_tokenizer(),
    )
    # The number of tokens before the prompt is fixed, and is that of the real tokenizer.
    made.prompt_template_encode_start_idx = len(chat_tokenizer()(made.prompt_template_encode.split("{}")[0]).input_ids)
    return made


def _encoder() -> Qwen2_5_VLForConditionalGeneration:
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": 16}
    special = dict.fromkeys(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id"), 0)
    text |= {"vocab_size": len(chat_tokenizer()), "rope_scaling": rope, "rope_theta": 1e6}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, hidden_size=16, **special)).eval()
