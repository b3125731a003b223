"""From images to latents and back, by an autoencoder of diffusers."""

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from expunge.models.finite import refuse_non_finite

OVERFLOWS = "--dtype fp32, or bf16: some autoencoders overflow in fp16"

Images: TypeAlias = UInt8[Tensor, "b 3 height width"]

DECODED = 8 * 512**2
"""Pixels that are decoded at once: at its full size an image takes the autoencoder far more memory than it took the network."""

ENCODED = 8
"""Images that are encoded at once."""


@torch.no_grad()
def decode(vae: Any, encoded: Tensor, size: int) -> Images:
    """Images, 8 bit, on the CPU, of latents as the autoencoder has them; `size` is the length of their sides in pixels.

    Raises:
        ExpungeError: rule "not-finite".
    """
    parts = encoded.to(vae.dtype).split(max(1, DECODED // size**2))
    images = (vae.decode(part, return_dict=False)[0].float() for part in parts)
    flat = (part[:, :, 0] if part.ndim == 5 else part for part in images)  # an autoencoder of videos makes one frame
    return torch.cat([_as_bytes(part) for part in flat])


def _as_bytes(decoded: Float[Tensor, "b 3 height width"]) -> Images:
    refuse_non_finite(decoded, "Decoded images", OVERFLOWS)
    return ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8)


@torch.no_grad()
def encode(vae: Any, images: Images, is_video: bool = False) -> Tensor:
    """What the autoencoder encodes images to, its means, on the CPU.

    Raises:
        ExpungeError: rule "not-finite".
    """
    parts = ((part.to(vae.device).float() / 127.5 - 1).to(vae.dtype) for part in images.split(ENCODED))
    found = (vae.encode(part[:, :, None] if is_video else part) for part in parts)
    means = torch.cat([(one.latent if hasattr(one, "latent") else one.latent_dist.mean).float().cpu() for one in found])
    refuse_non_finite(means, "Latents of encoded images", OVERFLOWS)
    return means
