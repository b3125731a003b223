"""The networks that a method is given: student, reference and running mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.diffusion.noise_path import Discrete, NoisePath
from expunge.diffusion.types import Latents, Maps, Network, Point
from expunge.errors import ExpungeError


def no_mean(point: Point) -> Latents:
    """The default of `Models.ema`, which raises an error."""
    raise ExpungeError(
        "The method reads the EMA of the student's weights, which is not kept because `ema` is 0.",
        rule="no-ema",
        value=0,
        hint="Try --ema 0.99, or another `ema` above 0.",
    )


def no_attention(point: Point) -> Maps:
    """The default of `Models.attention`, which raises an error."""
    raise ExpungeError(
        "The method reads attention maps, which this `Models` does not have.",
        rule="models-without-attention",
        value=None,
        hint="Try giving `Models` an `attention`, as the trainer does.",
    )


def no_recalled(point: Point) -> Latents:
    """The default of `Models.recalled`, which raises an error."""
    raise ExpungeError(
        "The method reads the student under the base model's reading of prompts, which this `Models` does not have.",
        rule="models-without-recalled",
        value=None,
        hint="Try giving `Models` a `recalled`, as the trainer does.",
    )


@dataclass(frozen=True)
class Models:
    """The same network under several weights, and what else a method works with.

    `student` carries gradient; `reference` is the base model, carries none, and caches what it computed.
    """

    student: Network
    reference: Network
    ema: Network = no_mean
    """The running mean of the student's weights, without gradient; only where `Training.ema` is above 0."""
    recalled: Network = no_recalled
    """The student with the base model's weights where prompts are read, with gradient into the others: what a word that restores the
    reading of a prompt would give."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The trained tensors, live: losses on them carry gradient. Under a low-rank scope, the factors."""
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    """The values of `weights` before the first step, without gradient."""
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """What `Objective.prepare` worked out and `Objective.update` has changed since."""
    companion: nn.Module | None = None
    """The network of `Objective.companion`, which is trained beside the student."""
    path: NoisePath = field(default_factory=Discrete)
    """The noise path, and what the networks predict on it."""
    attention: Callable[[Point], Maps] = no_attention
    """The student's attention to each token of the prompt, layer by layer, with gradient; it costs what a prediction costs."""

    def fixed_companion(self, *inputs: Tensor) -> Tensor:
        """What the companion says, with gradient into `inputs` but not into its own numbers: for terms that only the student descends."""
        assert self.companion is not None
        values = {name: p.detach() for name, p in self.companion.named_parameters()}
        return torch.func.functional_call(self.companion, values, inputs)
