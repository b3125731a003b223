"""Stable Diffusion 3.5 medium, tiny: its first block has `attn2`, which is self-attention of the image."""

import copy
from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tiny import tokenizer
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from expunge.models.stable_diffusion_3 import StableDiffusion3
from families.parts import T5_LENGTH, alive, assembled, autoencoder, clip_config, t5_encoder, t5_tokenizer


def model() -> StableDiffusion3:
    return StableDiffusion3(pipeline())


def pipeline(use_dynamic_shifting: bool = False) -> StableDiffusion3Pipeline:
    made = copy.deepcopy(_pipeline())
    made.scheduler.register_to_config(use_dynamic_shifting=use_dynamic_shifting)
    return made


def sample(of: StableDiffusion3Pipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "max_sequence_length": T5_LENGTH, "output_type": output}
    return of(prompts, latents=noise, height=16, width=16, **given).images


@cache
def _pipeline() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=48,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )
    return assembled(
        StableDiffusion3Pipeline,
        transformer=alive(network),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(16, 1.5305, 0.0609, has_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(clip_config("quick_gelu")).eval(),
        tokenizer=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config("gelu")).eval(),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5_encoder(64),
        tokenizer_3=t5_tokenizer(),
    )
