"""The two kinds of method: an `Objective`, which is trained, and an `Edit` in closed form.

A method is a frozen dataclass. Its fields are its settings, from which the command line, the TOML file, the card and the documentation are
made. A method declares the parts of a batch that it needs and the weights that it may change. It does not load models, run loops, save
files or choose devices.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.models.scopes import Scope

Which = Literal["every", "bare"]
"""Which prompts to forget: all, or those that contain a concept alone."""


@dataclass(frozen=True)
class Training:
    """How a method is trained.

    Each method has its own defaults, which were found on the canvas.
    """

    steps: Annotated[int, Ge(1)] = 100
    """Optimizer steps. More forget more, and damage more."""
    lr: Annotated[float, Gt(0)] = 3e-4
    """Learning rate of Adam. Larger forgets faster and damages more."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Whether the learning rate is constant or falls to zero along half a cosine. With `cosine` less noise of the last batches remains in
    the weights, which damages less for the same forgetting."""
    warmup: Annotated[int, Ge(1)] | None = None
    """Steps over which the learning rate rises linearly from 0 before the schedule begins; none starts at the full rate. More limit the
    first steps, in which Adam's running means are of few gradients. It must be less than `steps`."""
    cycles: Annotated[int, Ge(1)] | None = None
    """With `cosine`: how often the rate falls to zero, each time from the full rate again, as in SPM's released code; none is once."""
    weight_decay: Annotated[float, Gt(0)] | None = None
    """Decoupled weight decay (AdamW): each step shrinks the trained weights by this times the learning rate; none is Adam. Larger pulls the
    trained weights to zero, not to the base model. Some released codes have it. It goes with neither masks nor `whiten`."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Points on the noise path in each step, for each part that the method reads. Larger reduces the noise of the gradient and costs more
    time and memory."""
    accumulate: Annotated[int, Ge(1)] = 1
    """The number of parts that a batch is split into to save memory. The gradient is that of the whole batch."""
    pictures: Annotated[int, Ge(1)] = 64
    """Images (or trajectories) of the concept that the base model makes at the start, spread over the forget prompts; and as many surrogate
    or anchor images, for methods that use them. More vary more and take longer to make. A trajectory has a point for each step of the
    sampler, and no more trajectories are made than fill `points`."""
    prompts: Which = "every"
    """The concept's prompts to train on: `every`, each name with each partner and alone; `bare`, each name alone, as in ESD's paper. `bare`
    is learnt faster and its prompts contain no other words, but forgetting with other words then depends on generalisation."""
    retain_pictures: Annotated[int, Ge(1)] = 128
    """Images of retain prompts that the base model makes at the start, for methods that train on them. More represent more of what the
    model can do, and take longer to make."""
    points: Annotated[int, Ge(1)] = 512
    """Points on the noise path in the bank that batches are sampled from, with one bank for each part. More vary more; each costs a
    reference forward for every prompt whose prediction the method needs there."""
    train_sampler_steps: Annotated[int, Ge(1)] | None = None
    """Denoising steps of the images and trajectories to train on; none takes those of the model. Distilled (turbo) models need few. More
    are finer and take longer, and a trajectory has a point for each."""
    train_guidance: Annotated[float, Ge(0)] | None = None
    """Guidance scale of these images and trajectories; none takes that of the model. 0 and 1 are no guidance, as turbo models need, at half
    the cost. Larger shows the concept more plainly and varies less."""
    per_concept: bool = False
    """Whether `steps`, `points`, `pictures` and `retain_pictures` are those of each concept where one run removes several jointly, so that
    the run has as many times more. Without it the concepts share them, and from three concepts on each is forgotten less. With it, the
    cost grows in proportion to the number of concepts. A run of one concept is the same either way."""
    max_grad_norm: Annotated[float, Gt(0)] | Literal["off"] = 1.0
    """Gradients are scaled down to this norm; `off` leaves them as they are. With `whiten` above 0 it is the norm in whitened coordinates,
    which differs. Smaller limits large steps more."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of an exponential moving average of the trained weights, which then is the result; 0 has no average. Larger averages over more
    steps, and keeps the result nearer to the base model. For low-rank additions each factor is averaged by itself."""
    whiten: Annotated[float, Ge(0)] = 0.0
    """Above 0, Adam updates keys and values of cross-attention in coordinates in which the token states of prompts are white, with this
    share of their mean variance added to each direction (docs/explanation/whitening.md). Smaller separates similar words more, so that a
    concept is removed with less damage to its siblings, and changes weights more. 0 is Adam alone, and so is every value on a
    class-conditional model, whose labels have no direction in common."""
    whiten_layers: bool = False
    """Whether `whiten` is for every linear layer and convolution that is trained, each in coordinates in which its own input is white on
    random prompts (`anything`), and not for keys and values alone (docs/explanation/supplant.md). Takes a step's matrix products with a
    matrix as wide as each layer's input, and the memory for it."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations in the backward pass, which saves memory and costs one more forward pass."""
    checkpoint_every: Annotated[int, Ge(1)] = 50
    """Steps between checkpoints, from which an interrupted run resumes. Fewer lose less work and write more often."""

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ExpungeError(
                f"A batch of {self.batch_size} cannot be split into {self.accumulate} equal parts.",
                rule="uneven-batch",
                value=self.accumulate,
                hint=f"Try accumulate {gcd(self.batch_size, self.accumulate)}, or a batch size that is a multiple of {self.accumulate}.",
            )
        if self.warmup is not None and self.warmup >= self.steps:
            raise ExpungeError(
                f"The warm-up of {self.warmup} steps leaves none of {self.steps} at the full rate.",
                rule="warmup-too-long",
                value=self.warmup,
                hint=f"Try a warmup below {self.steps}.",
            )
        if self.weight_decay and self.whiten:
            raise ExpungeError(
                f"Weight decay shrinks weights in their own coordinates, and whitened steps have others (whiten is {self.whiten}).",
                rule="decay-and-whitening",
                value=self.weight_decay,
                hint="Try --whiten 0, or leave the weight decay out.",
            )
        if self.cycles is not None and self.schedule == "constant":
            raise ExpungeError(
                f"A constant learning rate has no cycles, but cycles is {self.cycles}.",
                rule="cycles-of-constant",
                value=self.cycles,
                hint="Try schedule cosine, or leave cycles out.",
            )

    def of_run(self, concepts: int) -> "Training":
        """The training of a run of that many joint concepts: without `per_concept`, with its numbers multiplied."""
        if not self.per_concept:
            return self
        counts = ("steps", "points", "pictures", "retain_pictures")
        return replace(self, per_concept=False, **{name: concepts * getattr(self, name) for name in counts})


class Objective(ABC):
    """A trained method: a pure function from (models, batch) to named scalar losses.

    Most methods consist of `needs`, `scope` and the call. The other hooks are for methods that alternate between phases, calibrate, mask
    weights, adapt a loss weight or train a network of their own. The hooks are pure too: what must be kept from step to step is a note.
    """

    training: ClassVar[Training] = Training()
    """The method's defaults."""
    companion_lr: ClassVar[float] = 1e-4
    """The learning rate of Adam for `companion`, constant over all steps."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """The parts of a batch that it reads, besides `target` and `null`."""

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """The weights that it trains."""

    @abstractmethod
    def __call__(self, models: Models, batch: Batch) -> Terms:
        """The losses of one step. Their sum is minimised."""

    @property
    def first(self) -> "ClosedForm | None":
        """A closed form with which the run begins: as `Edit.__call__`, of those trained weights that read the prompt alone. Its prompts are
        the forget prompts, as goals the same with `replacement` in the concept's place, and random prompts to preserve. None begins with
        the weights as they are."""
        return None

    @property
    def reads_null(self) -> bool:
        """Whether it reads `batch.null`, whose prediction means nothing in a distilled model."""
        return False

    @property
    def fixes_start(self) -> bool:
        """Whether keys and values get no gradient from the start token of a prompt."""
        return False

    def phase(self, step: int) -> str:
        """The name of the phase of a step (`batch.step`): a word without dots.

        Each phase has its own optimizer, so that a method which alternates between losses does not carry the momentum of one over to
        another.
        """
        return "train"

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        """Notes that are computed once, with the initial weights, before the first step: a scale, a mask, the diagonal of a Fisher matrix.

        `batches(step)` is the whole batch of a step. Negative steps have batches of the same distribution that training does not use.
        Compute gradients by `torch.autograd.grad` over `models.weights`, so that no `.grad` remains. A resumed run reads the notes from its
        folder.
        """
        return {}

    def update(self, notes: Mapping[str, Tensor], terms: Mapping[str, float]) -> dict[str, Tensor]:
        """The new values of the notes that change after each step, given the step's terms: dual variables, moving targets."""
        return {}

    def masks(self, notes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries that may change, by the name of the trained tensor (bool, with its shape). Tensors without a mask change freely.

        Return the same masks at every step: an entry that is masked later continues with its Adam moments.
        """
        return {}

    def companion(self, latent_shape: tuple[int, int, int]) -> nn.Module | None:
        """A small network that is trained with the student and discarded, such as the critic of a variational divergence.

        It descends the same terms, with Adam (betas 0 and 0.99) and `companion_lr`. If it must ascend what the student descends, return two
        terms: the student's, computed with `models.fixed_companion`, and the negated one of the companion, with the student detached.
        """
        return None


@dataclass(frozen=True)
class EditPrompts:
    """The prompts of a closed-form edit: row i of `target` is mapped to the current output of row i of `goal`, and the output of `retain`
    is preserved."""

    target: Cond
    goal: Cond
    retain: Cond
    tails: Mapping[str, tuple[range, ...]] = field(default_factory=dict)
    """By prompt, the rows from its last token to the end, for each text encoder whose rows are joined (`Cond.keys` are the prompts)."""


class Edit(ABC):
    """A closed-form method: a function from weights and encoded prompts to changed weights."""

    prompts: Which = "every"
    """The prompts to forget that it is given: `every`, or `bare`, those that contain a concept alone."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """The prompts that it reads: `anchor` for the goals, `retain` for what is preserved."""

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """The weights that it changes."""

    @abstractmethod
    def __call__(self, weights: Mapping[str, Tensor], prompts: EditPrompts) -> dict[str, Tensor]:
        """The new values of `weights`."""


ClosedForm = Callable[[Mapping[str, Tensor], EditPrompts], dict[str, Tensor]]
Method = Objective | Edit
StartToken = Literal["trained", "fixed"]
"""Whether the start token of prompts gives keys and values a gradient."""
Variant = Literal["xattn-kv", "xattn", "entrance", "non-xattn", "full", "xattn-lora"]
"""The scopes that most methods offer."""
