"""What a method is: an `Objective` that is trained, or an `Edit` in closed form.

A method is a frozen dataclass. Its fields are its configuration: the command line, the TOML file, the card and the docs table
all come from them. It declares what it needs and which numbers it may change, and knows nothing of loading, looping, saving
or devices.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from expunge.scope import Scope
from expunge.types import Batch, Cond, ExpungeError, Models, Need, Terms


@dataclass(frozen=True)
class Training:
    """How a method is trained. Each method brings its own defaults, found on the canvas."""

    steps: Annotated[int, Ge(1)] = 100
    """Optimizer steps."""
    lr: Annotated[float, Gt(0)] = 3e-4
    """Adam's step size. Larger forgets faster and hurts more."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the step size stays or falls to zero along half a cosine. Falling ends with less of the last batches' noise in the
    weights, and so hurts less for the same forgetting."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Points on the noise path in each step."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Parts that a batch is cut into to save memory; the gradient is that of the whole batch."""
    pictures: Annotated[int, Ge(1)] = 64
    """Pictures (or trajectories) of the concept that the untouched model makes at the start, spread over the forget prompts."""
    points: Annotated[int, Ge(1)] = 512
    """Places on the noise path in the finite bank that batches are drawn from. More is more varied; each costs one reference forward."""
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, one more forward."""
    checkpoint_every: Annotated[int, Ge(1)] = 50
    """Steps between checkpoints, from which a killed run goes on."""

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ExpungeError(
                f"a batch is cut into equal parts: batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}; "
                "choose a divisor"
            )


class Objective(ABC):
    """A trained method: a pure function from (models, batch) to named scalar losses."""

    training: ClassVar[Training] = Training()
    """The method's defaults."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """What it reads of a batch, besides `target` and `null`."""

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """Which numbers it trains."""

    @abstractmethod
    def __call__(self, models: Models, batch: Batch) -> Terms:
        """The losses of one step; their sum is minimised."""


@dataclass(frozen=True)
class EditPrompts:
    """What a closed-form edit maps: row i of `target` to what row i of `goal` gives now, while `retain` keeps its output."""

    target: Cond
    goal: Cond
    retain: Cond


class Edit(ABC):
    """A closed-form method: weights and encoded prompts in, changed weights out."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """Which prompts it reads; `anchor` gives the goals, `retain` what must survive."""

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """Which weights it changes."""

    @abstractmethod
    def __call__(self, weights: Mapping[str, Tensor], prompts: EditPrompts) -> dict[str, Tensor]:
        """The new values of `weights`."""


Method = Objective | Edit
Variant = Literal["xattn-kv", "xattn", "non-xattn", "full"]
