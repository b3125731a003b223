"""What a model family says of itself: the parts of its pipeline, its scopes, how it encodes prompts and calls its network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import nn

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.quiet import DiffusionPipeline
from expunge.models.sampling import Sampler

Pipeline: TypeAlias = DiffusionPipeline
"""What a model can be made of in memory."""


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
    text_encoder_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizer_parts: ClassVar[tuple[str, ...]] = ("tokenizer",)
    scopes: ClassVar[Mapping[str, str]]
    """The parameters that each scope means, as a regular expression that is found in their full names."""
    reads_tokens: ClassVar[str]
    """The same of the matrices whose input is the states of a prompt's tokens."""
    reads_pooled: ClassVar[bool] = False
    """Whether the network reads a pooled vector of the prompt beside its tokens."""
    has_attention_maps: ClassVar[bool] = False
    """Whether its cross-attention has a map of tokens for each pixel."""
    sampler: ClassVar[Sampler] = Sampler()
    """How images are sampled where neither the user nor the model's own defaults say it."""

    pipeline: Pipeline
    network: nn.Module

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Cond:
        """Encodes prompts, each distinct one once."""

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

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
    def tokenizers(self) -> list[tuple[Any, int]]:
        """The tokenizers, and how many tokens of each the text encoders read."""
        found = (getattr(self.pipeline, name) for name in self.tokenizer_parts)
        return [(t, t.model_max_length) for t in found]

    @property
    def row_tokenizers(self) -> list[tuple[Any, int]]:
        """Those whose tokens are the rows of `Cond.states`, one after another."""
        return self.tokenizers[:1]

    def set_times(self, scheduler: Any, steps: int) -> None:
        """Sets the times of a sampler."""
        scheduler.set_timesteps(steps, device=self.device)

    def null(self, count: int = 1) -> Cond:
        """The condition without a prompt, which classifier-free guidance moves away from."""
        return self.encode([""]).expand(count)
