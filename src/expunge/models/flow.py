"""What families of rectified flow share: tokens of 2x2 places, and the times of a sampler by the number of tokens."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Latents
from expunge.errors import ExpungeError

Packed = Float[Tensor, "b places four_c"]


def packed(x: Latents) -> Packed:
    """One token of 4 c numbers for each 2x2 places, row by row."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpacked(tokens: Packed, shape: torch.Size) -> Latents:
    """The inverse of `packed`, for latents of that shape."""
    b, c, h, w = shape
    return tokens.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def shift(config: Any, tokens: int) -> float:
    """The shift of times towards noise for an image of that many tokens: on a line through those of a small and a large image."""
    small, large = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return low + (tokens - small) / (large - small) * (high - low)


def even_sigmas(scheduler: Any, steps: int, mu: float, device: torch.device) -> None:
    """Sets a sampler's times from evenly spaced noise levels, 1 to 1 / steps, shifted by `mu` where the scheduler shifts.

    Raises:
        ExpungeError: one step with a scheduler that stretches times to a last one, which would divide by 0.
    """
    if steps == 1 and scheduler.config.get("shift_terminal"):
        raise ExpungeError(
            "The model's scheduler cannot sample in 1 step.", rule="too-few-steps", value=steps, hint="Try --steps 2 or more."
        )
    sigmas = None if scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps).tolist()
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu, device=device)
