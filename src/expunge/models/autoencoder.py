"""From images to latents and back, by an autoencoder of diffusers."""

from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from expunge.diffusion.types import Latents

Images: TypeAlias = UInt8[Tensor, "b 3 height width"]

DECODED = 8 * 512**2
"""Pixels that are decoded at once: at its full size an image takes the autoencoder far more memory than it took the network."""

ENCODED = 8
"""Images that are encoded at once."""


@torch.no_grad()
def decode(vae: Any, latents: Latents, size: int) -> Images:
    """Images of latents, 8 bit, on the CPU; `size` is the length of their sides in pixels."""
    shifted = latents / vae.config.scaling_factor + _shift(vae)
    parts = shifted.to(vae.dtype).split(max(1, DECODED // size**2))
    images = (vae.decode(part, return_dict=False)[0].float() for part in parts)
    return torch.cat([((part / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8) for part in images])


@torch.no_grad()
def encode(vae: Any, images: Images) -> Latents:
    """The latents that `decode` turns back into these images, as nearly as the autoencoder can: its means, on the CPU."""
    parts = ((part.to(vae.device).float() / 127.5 - 1).to(vae.dtype) for part in images.split(ENCODED))
    latents = torch.cat([vae.encode(part).latent_dist.mean.float().cpu() for part in parts])
    return (latents - _shift(vae)) * vae.config.scaling_factor


def _shift(vae: Any) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
