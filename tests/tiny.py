"""A real Stable Diffusion pipeline so small that a test can train it: the canvas's parts, random, on 8x8 latents."""

import tempfile
from functools import cache
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from expunge.canvas.pipeline import assemble, new_text_encoder, new_vae, write_tokenizer
from expunge.concept import Concept
from expunge.denoiser import StableDiffusion
from expunge.vocabulary import Vocabulary

TRAINING = {"steps": 6, "batch_size": 4, "points": 16, "pictures": 8, "lr": 1e-3}
"""Enough steps to visit points twice."""


@cache
def tokenizer():
    return write_tokenizer(Path(tempfile.mkdtemp()) / "tokenizer")


def pipeline(seed: int = 0, prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=2,
    )
    made = assemble(new_vae(), new_text_encoder(tokenizer()), tokenizer(), unet)
    made.scheduler.register_to_config(prediction_type=prediction_type)
    # A random network hardly reads its prompt; without this, every concept's prediction would be nearly the same.
    for name, parameter in unet.named_parameters():
        if ".attn2." in name:
            parameter.data *= 4
    return made


def denoiser(seed: int = 0, prediction_type: str = "epsilon") -> StableDiffusion:
    return StableDiffusion(pipeline(seed, prediction_type))


def concept(target: str = "neon", **settings) -> Concept:
    return Concept.find(target, Vocabulary.canvas(), **settings)
