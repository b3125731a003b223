"""A class-conditional U-Net on pixels, tiny, with four classes."""

import copy
from functools import cache

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, UNet2DModel
from torch import Tensor

from expunge.models.loading import load
from expunge.models.unet_2d import UNet2D
from families.parts import assembled

LABELS = ("cat", "dog", "big ship", "plane")
PROMPTS = ["label:0", "label:2"]


def model(channels: int = 3) -> UNet2D:
    made = load(pipeline(channels))
    assert isinstance(made, UNet2D)
    return made


def pipeline(channels: int = 3) -> DDPMPipeline:
    return copy.deepcopy(_pipeline(channels))


@torch.no_grad()
def sample(of: DDIMPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    """No pipeline of diffusers gives classes to this network, so its loop is written out here."""
    scheduler = copy.deepcopy(of.scheduler)
    scheduler.set_timesteps(steps)
    labels = torch.tensor([int(p.removeprefix("label:")) for p in prompts])
    x = noise
    for t in scheduler.timesteps:
        given, without = (of.unet(x, t, class_labels=row).sample for row in (labels, torch.full_like(labels, len(LABELS))))
        x = scheduler.step(without + guidance * (given - without), t, x).prev_sample
    return x if output == "latent" else (x / 2 + 0.5).clamp(0, 1)


@cache
def _pipeline(channels: int) -> DDPMPipeline:
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        num_class_embeds=len(LABELS) + 1,
    )
    network.register_to_config(id2label=dict(enumerate(LABELS)))
    return assembled(DDPMPipeline, unet=network.eval(), scheduler=DDIMScheduler(beta_schedule="squaredcos_cap_v2"))
