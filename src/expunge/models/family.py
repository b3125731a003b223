"""What a model family says of itself: the parts of its pipeline, its scopes, how it encodes prompts and calls its network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.defaults import Defaults, defaults_of
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline as Pipeline
else:
    Pipeline: TypeAlias = Any
"""What a model can be made of in memory."""

Guidance: TypeAlias = Literal["two predictions", "an input", "none"]
"""How a network is guided: by its predictions with and without a prompt (classifier-free), by a scale that it reads, or not at all."""


class Family(ABC):
    """The declarations and the few calls by which one model family differs from another."""

    family: ClassVar[str]
    """The name of the family in a run's card."""
    pipeline_class: ClassVar[str]
    """The name of its pipeline for text to image in diffusers."""
    parts: ClassVar[tuple[str, ...]]
    """The parts of the pipeline that it needs."""
    network_part: ClassVar[str]
    """The part that is trained."""
    network_class: ClassVar[str]
    """The name of its class in diffusers."""
    text_encoder_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizer_parts: ClassVar[tuple[str, ...]] = ("tokenizer",)
    scopes: ClassVar[Mapping[str, str]]
    """The parameters that each scope means, as a regular expression that is found in their full names. `entrance` is every map where words
    enter: linear layers whose input depends on the prompt alone, and which together are all that the network reads of it."""
    reads_tokens: ClassVar[str] = r"(?!)"
    """The same of the matrices whose input is `Cond.states` as it is. It saves the calls of the network that find the input of others."""
    reads_encoder_alone: ClassVar[bool] = False
    """Whether `Cond` is the last states of the only text encoder, whose prompts begin and end with a token of their own."""
    reads_labels: ClassVar[bool] = False
    """Whether a prompt is the name of a class, and no text encoder reads it."""
    has_attention_maps: ClassVar[bool] = False
    """Whether its cross-attention has a map of tokens for each pixel."""
    encodes_videos: ClassVar[bool] = False
    """Whether its autoencoder has an axis of frames."""

    pipeline: Pipeline
    network: nn.Module
    name: str

    @property
    def guidance(self) -> Guidance:
        """How the network is guided towards a prompt."""
        return "two predictions"

    @property
    def sampler(self) -> Sampler:
        """How images are sampled where neither the user nor the model's own defaults say it."""
        return Sampler()

    @property
    def defaults(self) -> Defaults:
        """What goes with this model where the user names nothing else."""
        return defaults_of(self.name)

    @property
    def default_sampler(self) -> Sampler:
        """The sampler that the model was measured with, else its family's."""
        return Sampler(*self.defaults.sampler) if self.defaults.sampler else self.sampler

    @property
    def is_distilled(self) -> bool:
        """Whether it was distilled into few steps, after which its prediction without a prompt means nothing.

        By its name, where its configuration does not say so.
        """
        names = f"{self.name} {self.pipeline.config.get('_name_or_path', '')}".lower()
        return any(word in names for word in ("turbo", "lightning", "schnell", "hyper-sd", "-lcm", "sprint"))

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Cond:
        """Encodes prompts, each distinct one once."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def device_kind(self) -> str:
        """The kind of device that it computes on."""
        return self.device.type

    @property
    def computes_in(self) -> torch.dtype:
        """The precision of what the network is called with; linear layers may be stored otherwise."""
        return next(p.dtype for p in self.network.parameters() if p.is_floating_point())

    def check(self) -> None:  # noqa: B027 - a family that has nothing to refuse need not say so
        """Refuses a pipeline that has the parts of this family and another kind of network.

        Raises:
            ExpungeError: the network cannot be called as this family calls it.
        """

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image's latents."""

    @abstractmethod
    def encode_rows(self, prompts: list[str]) -> Cond:
        """Encodes prompts that are known to fit, all of them in one call of each text encoder."""

    @abstractmethod
    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        """Calls the network, or what stands for it with other weights, as the family's pipeline calls it."""

    @property
    def size(self) -> int:
        """Pixels along each side of an image."""
        return self.latent_shape[1] * self.pipeline.vae_scale_factor

    def to_autoencoder(self, latents: Latents) -> Tensor:
        """Latents as the autoencoder decodes them."""
        config = self.pipeline.vae.config
        return latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)

    def from_autoencoder(self, encoded: Tensor) -> Latents:
        """Latents of what the autoencoder encodes an image to: the inverse of `to_autoencoder`."""
        config = self.pipeline.vae.config
        return (encoded - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    def forwards_per_image(self, sampler: Sampler) -> int:
        """Predictions that an image takes: under classifier-free guidance two in each step.

        Raises:
            ExpungeError: guidance of a distilled model that has none.
        """
        return sampler.steps * (2 if self._is_guided(sampler) else 1)

    def _is_guided(self, sampler: Sampler) -> bool:
        """Whether each step takes a second prediction, without the prompt."""
        if self.guidance == "none" and sampler.guidance_scale > 1:
            raise ExpungeError(
                f"{self.name} is distilled and takes no guidance, and the scale is {sampler.guidance_scale}.",
                rule="guidance-of-distilled",
                value=sampler.guidance_scale,
                hint="Try --guidance 1.",
            )
        return self.guidance == "two predictions" and sampler.guidance_scale > 1

    def guidance_input(self, cond: Cond) -> Tensor | None:
        """What a network that reads its guidance is given: a number for each row; the default sampler's where `cond` says none."""
        if self.guidance != "an input":
            return None
        given = cond.extra.get("guidance")
        return cond.states.new_full((len(cond),), self.default_sampler.guidance_scale) if given is None else given

    def guided(self, given: Latents, without: Latents, scale: float) -> Latents:
        """The prediction under classifier-free guidance, from those with and without the prompt."""
        return without + scale * (given - without)

    @property
    def readings(self) -> list[Reading]:
        """How each text encoder reads a prompt. Those with `has_rows` are in the order of the rows of `Cond.states`.

        By default as Stable Diffusion does: the first one gives the rows, and there is no template. A family whose pipeline puts prompts
        into a template says so by `Reading.within`.
        """
        found = ((name == self.tokenizer_parts[0], getattr(self.pipeline, name)) for name in self.tokenizer_parts)
        return [Reading(t, t.model_max_length, has_rows, partial(self.write, t)) for has_rows, t in found]

    def write(self, tokenizer: Any, prompt: str) -> str:
        """The prompt as the pipeline gives it to a tokenizer: each vector of a textual inversion is a token of its own."""
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)
        return convert(prompt, tokenizer) if convert else prompt

    def set_times(self, scheduler: Any, steps: int) -> None:
        """Sets the times of a sampler."""
        scheduler.set_timesteps(steps, device=self.device)

    def null(self, count: int = 1) -> Cond:
        """The condition without a prompt, which classifier-free guidance moves away from."""
        return self.encode([""]).expand(count)


def side_of(sample_size: Any) -> int:
    """The length of the sides of latents, from a network's configuration: a number, or a pair of equal ones.

    Raises:
        ExpungeError: images that are not square, or a configuration that names no size.
    """
    sides = set(sample_size) if isinstance(sample_size, list | tuple) else {sample_size}
    if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
        raise ExpungeError(
            f"The network's configuration has the sample_size {sample_size!r}. Images are square here.",
            rule="sample-size",
            value=sample_size,
            hint="Try to set sample_size in the config.json of the network to one number: the sides of an image divided by the "
            "autoencoder's factor, as 64 for 512 pixels.",
        )
    return int(sides.pop())
