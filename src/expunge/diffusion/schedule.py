"""Noise schedules of discrete paths: betas, and abar_t = prod_{s <= t} (1 - beta_s). Timesteps count from 0."""

import torch
from jaxtyping import Float
from torch import Tensor

Schedule = Float[Tensor, " steps"]


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Schedule:
    """Betas whose square roots are evenly spaced, in float64; the defaults are Stable Diffusion's.

    Larger betas noise faster: `beta_start` sets how much of the image's detail the first steps take, `beta_end` the last.
    """
    return torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2


def alphas_cumprod(betas: Schedule) -> Schedule:
    """abar_t = prod_{s <= t} (1 - beta_s): the share of the image in the variance of x_t, falling from about 1 to about 0."""
    return torch.cumprod(1 - betas, dim=0)


SCALED_LINEAR: Schedule = alphas_cumprod(scaled_linear())
"""abar_t of Stable Diffusion."""
