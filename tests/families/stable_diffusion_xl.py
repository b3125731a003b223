"""Stable Diffusion XL, tiny: two CLIPs, one of them pooled, and times and sizes as further conditions."""

import copy
from functools import cache
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tiny import tokenizer
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from expunge.models.stable_diffusion_xl import StableDiffusionXL
from families.parts import alive, assembled, autoencoder, clip_config


def model() -> StableDiffusionXL:
    return StableDiffusionXL(pipeline())


def pipeline(**scheduler: Any) -> StableDiffusionXLPipeline:
    made = copy.deepcopy(_pipeline())
    made.scheduler = EulerDiscreteScheduler.from_config(made.scheduler.config, **scheduler)
    return made


def sample(of: StableDiffusionXLPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": output}
    return of(prompts, latents=noise, height=16, width=16, **given).images


@cache
def _pipeline() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    # A random network hardly reads its prompt, by either way.
    for name, parameter in unet.named_parameters():
        if ".attn2." in name or name.startswith("add_embedding."):
            parameter.data *= 4
    return assembled(
        StableDiffusionXLPipeline,
        unet=alive(unet),
        vae=autoencoder(4, 0.13025),
        text_encoder=CLIPTextModel(clip_config("quick_gelu")).eval(),
        tokenizer=tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config("gelu")).eval(),
        tokenizer_2=tokenizer(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
