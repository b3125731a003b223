"""DiT, tiny: two blocks, three classes."""

import copy
from functools import cache

import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from expunge.models.dit import DiT
from families.parts import alive, assembled, autoencoder

LABELS = {0: "tench, Tinca tinca", 1: "crane", 2: "crane, heron"}
PROMPTS = ["label:0", "label:2"]


def model() -> DiT:
    return DiT(pipeline())


def pipeline() -> DiTPipeline:
    return copy.deepcopy(_pipeline())


@torch.no_grad()
def sample(of: DiTPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    """Its pipeline draws its own noise and takes 1000 for the null class, so the loop is written out here."""
    scheduler = copy.deepcopy(of.scheduler)
    scheduler.set_timesteps(steps)
    labels, null = torch.tensor([int(p.removeprefix("label:")) for p in prompts]), torch.full((len(prompts),), len(LABELS))
    x = noise
    for t in scheduler.timesteps:
        given, without = (of.transformer(x, timestep=t[None], class_labels=row).sample[:, :4] for row in (labels, null))
        x = scheduler.step(without + guidance * (given - without), t, x).prev_sample
    return x if output == "latent" else (of.vae.decode(x / of.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


@cache
def _pipeline() -> DiTPipeline:
    torch.manual_seed(0)
    network = DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=len(LABELS),
    )
    return assembled(
        DiTPipeline,
        transformer=alive(network),
        vae=autoencoder(4, 0.18215).eval(),
        scheduler=DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        id2label=LABELS,
    )
