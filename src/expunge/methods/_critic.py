"""The discriminator of a variational divergence, which distinguishes the student's predictions from the goal's."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from expunge.diffusion.types import Latents, Times

WIDTH = 64
"""Channels of the first layers."""


class Discriminator(nn.Module):
    """v(x_t, eps, t), one number for each point: four strided convolutions over x_t and the prediction, and pooling.

    Spectral norms limit how sharply it separates the two at the start, which would leave the student without a gradient. Its head starts at
    zero, so its first outputs are zero. It is small and uses pooled features, so its bound is looser than the closed form, and this
    explains differences between the two forms. The architecture is ours.
    """

    def __init__(self, channels: int):
        super().__init__()
        widths = (2 * channels, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH)
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(narrow, wide, 3, stride=2, padding=1)) for narrow, wide in pairwise(widths)
        )
        self.time = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.head = nn.Linear(2 * WIDTH, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_t: Latents, eps: Latents, t: Times) -> Float[Tensor, " b"]:
        first, *rest = self.convolutions
        features = first(torch.cat([x_t, eps], dim=1).float()) + self.time(sinusoids(t, WIDTH))[:, :, None, None]
        for convolution in rest:
            features = convolution(nn.functional.leaky_relu(features, 0.2))
        return self.head(nn.functional.leaky_relu(features, 0.2).mean((2, 3)))[:, 0]


def sinusoids(t: Times, width: int) -> Float[Tensor, "b width"]:
    """Sines and cosines of t at `width` / 2 frequencies from 1 down to 1 / 10000 (arXiv 1706.03762, section 3.5)."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
