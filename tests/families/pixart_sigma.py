"""PixArt-Sigma, tiny."""

import copy
from functools import cache

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
from torch import Tensor

from expunge.models.pixart_sigma import PixArtSigma
from families.parts import T5_LENGTH, alive, assembled, autoencoder, t5_encoder, t5_tokenizer


def model() -> PixArtSigma:
    return PixArtSigma(pipeline())


def pipeline() -> PixArtSigmaPipeline:
    return copy.deepcopy(_pipeline())


def sample(of: PixArtSigmaPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "max_sequence_length": T5_LENGTH, "output_type": output}
    return of(prompts, latents=noise, height=16, width=16, use_resolution_binning=False, **given).images


@cache
def _pipeline() -> PixArtSigmaPipeline:
    torch.manual_seed(0)
    network = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=32,
        out_channels=8,
        use_additional_conditions=False,
    )
    return assembled(
        PixArtSigmaPipeline,
        transformer=alive(network),
        vae=autoencoder(4, 0.13025),
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        text_encoder=t5_encoder(32),
        tokenizer=t5_tokenizer(),
    )
