"""Flux.1, tiny: dev reads its guidance and shifts its times, schnell does neither."""

import copy
from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from tiny import tokenizer
from torch import Tensor
from transformers import CLIPTextModel

from expunge.models.flux_1 import Flux1
from families.parts import T5_LENGTH, alive, assembled, autoencoder, clip_config, t5_encoder, t5_tokenizer


def model() -> Flux1:
    return Flux1(pipeline())


def pipeline(is_schnell: bool = False) -> FluxPipeline:
    return copy.deepcopy(_pipeline(is_schnell))


def sample(of: FluxPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    b, c, h, w = noise.shape
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "max_sequence_length": T5_LENGTH, "output_type": output}
    made = of(prompts, latents=of._pack_latents(noise, b, c, h, w), height=16, width=16, **given).images
    return of._unpack_latents(made, 16, 16, of.vae_scale_factor) if output == "latent" else made


@cache
def _pipeline(is_schnell: bool) -> FluxPipeline:
    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=not is_schnell,
    )
    return assembled(
        FluxPipeline,
        transformer=alive(network),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0 if is_schnell else 3.0, use_dynamic_shifting=not is_schnell),
        vae=autoencoder(4, 0.3611, 0.1159, has_quant_conv=False),
        text_encoder=CLIPTextModel(clip_config()).eval(),
        tokenizer=tokenizer(),
        text_encoder_2=t5_encoder(32),
        tokenizer_2=t5_tokenizer(),
    )
