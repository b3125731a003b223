"""How models of labelled images are trained, and the parts that they are made of."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
from torch import nn

from expunge.canvas.training.train import Budget
from expunge.models.quiet import quiet


@dataclass(frozen=True)
class Recipe:
    """How a model and its judge are trained. The defaults are those of the digits, for two cores."""

    steps: Annotated[int, Ge(1)] = 1500
    """Optimizer steps. More train better and take longer."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Images in each step. Larger gives less gradient noise for more computation."""
    lr: Annotated[float, Gt(0)] = 3e-3
    """The peak learning rate of AdamW, after a warm-up and before a cosine decay to zero."""
    ema: float = 0.99
    """Decay of the exponential moving average of the weights, which is the result. Larger averages over more steps."""
    snr_gamma: Annotated[float, Gt(0)] = Budget.snr_gamma
    """The cap of the signal-to-noise ratio in the weight of a time (arXiv 2303.09556). Larger gives more weight to little noise."""
    channels: tuple[int, ...] = (24, 48)
    """Channels of each level of the U-Net; each level halves the image. More are better and slower."""
    layers: Annotated[int, Ge(1)] = 1
    """Residual blocks of each level on the way down; on the way up there is one more."""
    attention: tuple[int, ...] = ()
    """Levels with self-attention, from 0."""
    has_middle: bool = False
    """Whether two residual blocks and self-attention lie between the way down and the way up."""
    dropout: float = 0.0
    """Dropout in the residual blocks while the model is trained."""
    schedule: str = "squaredcos_cap_v2"
    """The noise schedule, as diffusers names it."""
    label_dropout: float = 0.1
    """The share of images that are trained under no class, for guidance."""
    flips: bool = False
    """Whether images are mirrored at random, for data in which left and right mean nothing."""
    judge_steps: Annotated[int, Ge(1)] = 1000
    """Optimizer steps of the judge."""
    judge_widths: tuple[int, ...] = (24, 48)
    """Channels of each level of the judge."""


DIGITS = Recipe()
CIFAR10 = Recipe(
    steps=800_000, batch_size=128, lr=2e-4, ema=0.9999, snr_gamma=1e9, channels=(128, 256, 256, 256), layers=2, attention=(1,),
    has_middle=True, dropout=0.1, schedule="linear", flips=True, judge_steps=20_000, judge_widths=(64, 128, 256),
)  # fmt: skip
"""The architecture, batch, learning rate, steps and average of SalUn's DDPM (arXiv 2310.12508, its code's cifar10_train.yml)."""
RECIPES = {"digits": DIGITS, "cifar10": CIFAR10}


def new_unet(recipe: Recipe, names: tuple[str, ...], channels: int, size: int) -> UNet2DModel:
    """An untrained U-Net for images of these classes, with one more row in its table of classes for none."""
    levels = range(len(recipe.channels))
    down = tuple("AttnDownBlock2D" if level in recipe.attention else "DownBlock2D" for level in levels)
    up = tuple("AttnUpBlock2D" if level in recipe.attention else "UpBlock2D" for level in reversed(levels))
    unet = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=recipe.layers,
        block_out_channels=recipe.channels,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2D" if recipe.has_middle else None,
        attention_head_dim=None,
        norm_num_groups=min(32, recipe.channels[0] // 4),
        dropout=recipe.dropout,
        num_class_embeds=len(names) + 1,
    )
    unet.register_to_config(id2label=dict(enumerate(names)))
    return unet


def assemble(unet: UNet2DModel, recipe: Recipe) -> DDPMPipeline:
    """A pipeline of diffusers, with the deterministic sampler."""
    with quiet():
        pipeline = DDPMPipeline(unet, DDIMScheduler(beta_schedule=recipe.schedule, timestep_spacing="trailing"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def parameters(network: nn.Module) -> int:
    """How many numbers a network has."""
    return sum(p.numel() for p in network.parameters())


def untrained(recipe: Recipe, names: tuple[str, ...], channels: int, size: int) -> UNet2DModel:
    """A U-Net without weights, to count with: nothing is computed."""
    with torch.device("meta"):
        return new_unet(recipe, names, channels, size)
