"""How images are sampled, and the points that a sampler visits on the way."""

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from expunge.diffusion.types import Latents, Times
from expunge.errors import ExpungeError, Inapplicable
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
class Start:
    """Where sampling begins and what it is given, if not the noise of the seeds alone. Rows go with those of the prompts."""

    noise: Latents | None = None
    """Initial noise in the place of the seeds'."""
    clean: Latents | None = None
    """Clean latents of an image that sampling is given."""
    skipped: float = 0.0
    """The share of the steps, from 0 to 1, that the image takes the place of: sampling begins after them, from the image with the noise of
    that time (img2img). At least one step is left."""
    shown: Bool[Tensor, "b 1 height width"] | None = None
    """The places of the latents where the image is put back before each step, noised, and at the end as it is (inpainting)."""

    def __post_init__(self) -> None:
        if self.clean is None and (self.skipped or self.shown is not None):
            raise ExpungeError(
                "Sampling that skips steps or shows a part needs an image to begin from.",
                rule="start-without-image",
                value=self.skipped,
                hint="Try Start(clean=...).",
            )

    def __getitem__(self, rows: Any) -> "Start":
        """Those rows."""
        noise, clean, shown = (None if part is None else part[rows] for part in (self.noise, self.clean, self.shown))
        return Start(noise, clean, self.skipped, shown)

    def to(self, device: torch.device) -> "Start":
        """The same on a device."""
        noise, clean, shown = (None if part is None else part.to(device) for part in (self.noise, self.clean, self.shown))
        return Start(noise, clean, self.skipped, shown)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything in it, by name: what an image that begins here is kept under."""
        parts = {"noise": self.noise, "clean": self.clean, "shown": self.shown, "skipped": torch.tensor(self.skipped)}
        return {name: part.detach().cpu() for name, part in parts.items() if part is not None}


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


def timed(scheduler: Any, set_times: Callable[[Any, int], None], sampler: Sampler) -> Any:
    """A copy of a scheduler of diffusers with the sampler's times, for one use.

    Raises:
        ExpungeError: the scheduler cannot take that many steps.
    """
    scheduler = copy.deepcopy(scheduler)
    try:
        set_times(scheduler, sampler.steps)
    except (ValueError, IndexError, RuntimeError) as error:
        raise ExpungeError(
            f"A {type(scheduler).__name__} cannot take {sampler.steps} steps: {' '.join(str(error).split()).rstrip('.')}.",
            rule="sampler-steps",
            value=sampler.steps,
            hint="Try another number with --steps, or --train-sampler-steps for what a run trains on.",
        ) from error
    return scheduler


def walk(
    scheduler: Any, predict: Predictions, guided: Guided, noise: Latents, seeds: list[int], start: Start | None = None
) -> Iterator[Visit | Latents]:
    """Samples from initial noise step by step: yields a `Visit` for each step and at last the clean latents.

    A scheduler that adds noise on the way (Euler ancestral, DDPM) takes it for each image from that image's seed, so that two models
    are compared on the same noise there too.

    Args:
        scheduler: of diffusers, with its times set; it is used up.
        start: what sampling is given besides the noise.

    Raises:
        ExpungeError: rule "not-finite", the clean latents have a NaN or an infinity; rule "no-noising", the scheduler cannot noise the
            image that it is given.
    """
    start = start or Start()
    added = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        added = {"generator": [torch.Generator().manual_seed(seed_of(seed, "on the way")) for seed in seeds]}
    x, times = noise * getattr(scheduler, "init_noise_sigma", 1.0), scheduler.timesteps
    if start.clean is not None and start.skipped:
        steps, each = len(times), getattr(scheduler, "order", 1)  # Heun's has two times for each step but the first
        first = min(round(start.skipped * steps) // each * each, steps - 1)
        times = times[first:]
        if first and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        x = noised_by(scheduler, start.clean, noise, times[0]) if first else x
    for t in times:
        if start.clean is not None and start.shown is not None:
            x = torch.where(start.shown, noised_by(scheduler, start.clean, noise, t), x)
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        given, without = predict(x_in, t)
        yield Visit(x_in, t.float(), given, without)
        out = given if without is None else guided(given, without)
        x = scheduler.step(out, t, x, return_dict=False, **added)[0]
    if start.clean is not None and start.shown is not None:
        x = torch.where(start.shown, start.clean.to(x), x)
    refuse_non_finite(x, "The latents of sampled images")
    yield x


def noised_by(scheduler: Any, clean: Latents, noise: Latents, t: Tensor) -> Latents:
    """An image with the noise of a time, in the scheduler's own scale.

    Raises:
        ExpungeError: rule "no-noising", the scheduler cannot do so.
    """
    times = t.reshape(1).expand(len(clean))
    if hasattr(scheduler, "scale_noise"):  # a flow's
        return scheduler.scale_noise(clean.to(noise), times, noise)
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean.to(noise), noise, times)
    raise Inapplicable(
        f"A {type(scheduler).__name__} cannot noise an image that sampling is to begin from.",
        rule="no-noising",
        value=type(scheduler).__name__,
        hint="Try another scheduler, such as a DDIMScheduler, in the model's folder.",
    )
