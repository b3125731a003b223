"""How images are sampled, and what a sampler visits on the way."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from jaxtyping import Int
from torch import Tensor

from expunge.diffusion.types import Latents


@dataclass(frozen=True)
class Sampler:
    """How pictures are made: the model's own scheduler, so many steps, so much guidance."""

    steps: Annotated[int, Ge(1)] = 25
    """Denoising steps. More is finer and slower."""
    guidance_scale: Annotated[float, Ge(1)] = 7.5
    """Classifier-free guidance: how far past the unprompted prediction. 1 is none, at half the cost; larger follows the prompt more."""


@dataclass(frozen=True)
class Visit:
    """One step of sampling: where the sampler stood, and what the network said there with and without the prompt."""

    x_t: Latents
    t: Int[Tensor, ""]
    """The nearest whole timestep, where a scheduler stands between two."""
    eps_cond: Latents
    eps_null: Latents | None
    """None without guidance."""
