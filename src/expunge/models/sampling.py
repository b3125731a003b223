"""How images are sampled, and the points that a sampler visits on the way."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Latents, Times
from expunge.errors import ExpungeError
from expunge.models.finite import refuse_non_finite
from expunge.storage.hashing import seed_of


@dataclass(frozen=True)
class Sampler:
    """How images are sampled: with the model's own scheduler, by the number of steps and the strength of guidance."""

    steps: Annotated[int, Ge(1)] = 25
    """Denoising steps. More is finer and slower."""
    guidance_scale: Annotated[float, Ge(0)] = 7.5
    """How strongly a prompt is followed. Larger follows it more. By classifier-free guidance: how far past the unprompted prediction; 0 and
    1 are none, at half the cost. A network that reads its guidance (Flux dev) is given this number, at no further cost."""

    def __post_init__(self) -> None:
        if 0 < self.guidance_scale < 1:
            raise ExpungeError(
                f"A guidance scale of {self.guidance_scale} lies between none and some.",
                rule="guidance-below-one",
                value=self.guidance_scale,
                hint="Try 1 for none, or more.",
            )


@dataclass(frozen=True)
class Visit:
    """One step of sampling: the point, and the network's predictions there with and without the prompt."""

    x_t: Latents
    t: Float[Tensor, ""]
    given: Latents
    """The prediction with the prompt, as the network makes it."""
    without: Latents | None
    """None without guidance."""


Predictions = Callable[[Latents, Times], tuple[Latents, Latents | None]]
"""The network's predictions at x_t with the prompt and, under guidance, without."""


Guided = Callable[[Latents, Latents], Latents]
"""The prediction to follow, of those with and without the prompt."""


def walk(scheduler: Any, predict: Predictions, guided: Guided, noise: Latents, seeds: list[int]) -> Iterator[Visit | Latents]:
    """Samples from initial noise step by step: yields a `Visit` for each step and at last the clean latents.

    A scheduler that adds noise on the way (Euler ancestral, DDPM) takes it for each image from that image's seed, so that two models
    are compared on the same noise there too.

    Args:
        scheduler: of diffusers, with its times set; it is used up.

    Raises:
        ExpungeError: rule "not-finite", the clean latents have a NaN or an infinity.
    """
    added = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        added = {"generator": [torch.Generator().manual_seed(seed_of(seed, "on the way")) for seed in seeds]}
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        given, without = predict(x_in, t)
        yield Visit(x_in, t.float(), given, without)
        out = given if without is None else guided(given, without)
        x = scheduler.step(out, t, x, return_dict=False, **added)[0]
    refuse_non_finite(x, "The latents of sampled images")
    yield x
