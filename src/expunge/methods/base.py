"""What a method is: an `Objective` that is trained, or an `Edit` in closed form.

A method is a frozen dataclass. Its fields are its configuration: the command line, the TOML file, the card and the docs table
all come from them. It declares what it needs and which numbers it may change, and knows nothing of loading, looping, saving
or devices.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.models.scopes import Scope


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
    """Points on the noise path in each step, of each part that the method reads."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Parts that a batch is cut into to save memory; the gradient is that of the whole batch."""
    pictures: Annotated[int, Ge(1)] = 64
    """Pictures (or trajectories) of the concept that the untouched model makes at the start, spread over the forget prompts; as many
    of what stands in its place, for methods that show it. Of trajectories no more are made than `points` has room for, each of which
    holds a point for every step of the sampler."""
    prompts: Literal["every", "bare"] = "every"
    """Which of the concept's prompts are trained on: `every`, each name with each partner and alone; `bare`, each name alone, as
    ESD's paper has it: quicker to learn, no innocent word stands beside the concept, and the rest is left to the network."""
    retain_pictures: Annotated[int, Ge(1)] = 128
    """Pictures of prompts that must survive, made by the untouched model at the start, for methods that train on them. More stand
    for more of what the model can do."""
    points: Annotated[int, Ge(1)] = 512
    """Places on the noise path in the finite bank that batches are drawn from, one bank for each part. More is more varied; each
    costs a reference forward for every prompt that the method asks the untouched model about there."""
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    """Gradients are scaled down to this norm, in whitened coordinates where `whiten` is above 0, whose norms are others."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the old value in a running mean of the trained weights, which then is the result; 0 keeps none. Larger averages over
    more steps, and holds the result nearer to the untouched model. In a scope of low rank the factors are averaged, one by one."""
    whiten: Annotated[float, Ge(0)] = 0.0
    """Above 0, Adam steps on keys and values of cross-attention in coordinates in which prompts' tokens are white, with this share
    of their mean variance added to each direction (`expunge.whitening`). Smaller tells closer words apart: a concept goes with less
    harm to its siblings, and weights change more. 0 is Adam alone."""
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
    """A trained method: a pure function from (models, batch) to named scalar losses.

    `needs`, `scope` and the call are all that most methods are. The hooks below them are for those that alternate, calibrate,
    mask, adapt a weight or bring a network of their own. They too are pure: what must last from one step to the next is a note.
    """

    training: ClassVar[Training] = Training()
    """The method's defaults."""
    companion_lr: ClassVar[float] = 1e-4
    """Adam's step size for `companion`, which stays the same to the end."""

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

    def phase(self, step: int) -> str:
        """The name of the phase that the step of `batch.step` belongs to: a word without dots.

        Each phase has an optimizer of its own, so that a method which alternates between aims does not carry the momentum of one
        into the other.
        """
        return "train"

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        """Notes worked out once, on the untouched weights, before the first step: a scale, a mask, a Fisher diagonal.

        `batches(step)` is the whole batch of a step; those of negative steps are drawn alike and are not training's own. Use
        `torch.autograd.grad` over `models.weights` for gradients: no `.grad` may be left. A resumed run reads the notes from its folder.
        """
        return {}

    def update(self, notes: Mapping[str, Tensor], terms: Mapping[str, float]) -> dict[str, Tensor]:
        """After each step, the new values of those notes that change, given the step's terms: dual variables, moving targets."""
        return {}

    def masks(self, notes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the name of a trained tensor, which of its entries may move (bool, the tensor's shape); what is not named moves freely.

        Give the same masks at every step: an entry that is masked later goes on with what Adam remembers of it.
        """
        return {}

    def companion(self, latent_shape: tuple[int, int, int]) -> nn.Module | None:
        """A small network that is trained beside the student and thrown away, such as the critic of a variational divergence.

        It descends the same terms, with Adam (betas 0 and 0.99) and `companion_lr`. Where it is to ascend what the student descends,
        give two terms: the student's through `models.fixed_companion`, and the negated one of the companion on a detached student.
        """
        return None


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
Variant = Literal["xattn-kv", "xattn", "non-xattn", "full", "xattn-lora"]
