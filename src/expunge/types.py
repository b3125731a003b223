"""The words everything else is written in: encoded prompts, points on the noise path, batches, models, needs.

Nothing here knows a diffusion library, a file or a device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Latents = Float[Tensor, "b c h w"]
Times = Int[Tensor, " b"]
Maps = list[Float[Tensor, "b _ _ tokens"]]
"""One for each layer of cross-attention, [b, heads, pixels, tokens]: how much each pixel attends to each token, 1 in all."""
Spans = Int[Tensor, "b tokens"]
"""What each token of a prompt is: 1 the concept's, 2 the end of the text, 3 padding, 0 any other."""
Terms = dict[str, Float[Tensor, ""]]
"""Named scalar losses; their sum is minimised, each is logged."""

Need = Literal[
    "reference", "forget", "trajectory", "anchor_pictures", "surrogate", "retain", "context", "marginal", "sibling", "anchor", "spans"
]
"""What a method may ask for. `target` and `null` are always there."""

NEEDS: dict[Need, str] = {
    "reference": "the untouched model's noise predictions",
    "forget": "pictures of the concept made by the untouched model, noised",
    "trajectory": "points that the untouched model visits while it samples the concept under guidance",
    "anchor_pictures": "pictures of the anchor's prompts by the untouched model, each under the forget prompt, noised",
    "surrogate": "pictures of what may stand in the concept's place by the untouched model, each under the forget prompt, noised",
    "retain": "what must survive: pictures by the untouched model, noised, each under its prompt; for closed forms the prompts alone",
    "context": "each forget prompt with the concept deleted",
    "marginal": "each forget prompt with another concept of the same domain in the concept's place",
    "sibling": "each forget prompt with another member of the concept's family in the concept's place; the marginal, where there is none",
    "anchor": "each forget prompt with the anchor in the concept's place",
    "spans": "what each token of each forget prompt is: the concept's, the end, padding or another",
}

NO_CONTROL = "none"
"""In the place of a control: no retrained model is attacked, not even one that the package brings."""
RETRAINED = "retrain"
"""Stands in the place of a method for a model that was trained without the concept: what unlearning is measured against."""

LEADS: tuple[Need, ...] = ("forget", "trajectory", "anchor_pictures", "surrogate")
"""The parts whose rows belong to forget prompts. `context`, `marginal`, `sibling`, `anchor` and `spans` go row by row with the first."""


class ExpungeError(Exception):
    """A user's mistake or a failed promise: one line that states the rule, the value received and the next step."""


class UndeclaredNeed(ExpungeError):
    """A method read a part of its batch that it had not declared in `needs`."""


@dataclass(frozen=True)
class Cond:
    """Encoded prompts, a row each, with whatever else the model family conditions on.

    `keys` names each row for good (the prompt's text): equal keys mean equal rows, which is what caches rely on.
    """

    states: Float[Tensor, "b tokens width"]
    keys: tuple[str, ...]
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors with a leading batch axis, for example `pooled` text embeddings or `time_ids`."""

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: list[int] | slice) -> "Cond":
        at = list(range(len(self)))[rows] if isinstance(rows, slice) else rows
        return Cond(self.states[at], tuple(self.keys[i] for i in at), {k: v[at] for k, v in self.extra.items()})

    def expand(self, count: int) -> "Cond":
        """One row repeated `count` times; `count` rows as they are."""
        if len(self) == count:
            return self
        if len(self) != 1:
            raise ValueError(f"a condition of {len(self)} rows cannot serve {count} points: give it 1 row or {count}")
        return self[[0] * count]

    def to(self, device: torch.device | str) -> "Cond":
        return Cond(self.states.to(device), self.keys, {k: v.to(device) for k, v in self.extra.items()})

    @staticmethod
    def cat(parts: "list[Cond]") -> "Cond":
        extra = {k: torch.cat([p.extra[k] for p in parts]) for k in parts[0].extra}
        return Cond(torch.cat([p.states for p in parts]), tuple(k for p in parts for k in p.keys), extra)


@dataclass(frozen=True)
class Point:
    """Places on the noise path and the prompts that condition them: what a network is called with.

    `keys` names each (x_t, t) for good, so that a reference output is computed once for a point and a prompt.
    """

    x_t: Latents
    t: Times
    cond: Cond
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def given(self, cond: Cond) -> "Point":
        """The same place under another condition: eps(x_t, t, c') is `net(point.given(c'))`."""
        return replace(self, cond=cond.expand(len(self)))

    def __getitem__(self, rows: list[int] | slice) -> "Point":
        at = list(range(len(self)))[rows] if isinstance(rows, slice) else rows
        return Point(self.x_t[at], self.t[at], self.cond[at], tuple(self.keys[i] for i in at))


@dataclass(frozen=True)
class Noised(Point):
    """A point made by noising a clean latent, which therefore knows its noise."""

    noise: Latents

    def __getitem__(self, rows: list[int] | slice) -> "Noised":
        place = super().__getitem__(rows)
        return Noised(place.x_t, place.t, place.cond, place.keys, self.noise[rows])

    @staticmethod
    def cat(parts: "list[Noised]") -> "Noised":
        """All rows of the parts, for one call of the network instead of several."""
        x_t, t, noise = (torch.cat([getattr(p, name) for p in parts]) for name in ("x_t", "t", "noise"))
        return Noised(x_t, t, Cond.cat([p.cond for p in parts]), tuple(k for p in parts for k in p.keys), noise)


@runtime_checkable
class Network(Protocol):
    """A noise predictor. Every family and parameterisation is converted to eps at the edge."""

    def __call__(self, point: Point) -> Latents: ...


def together(network: Network, *points: Point) -> tuple[Latents, ...]:
    """What a network predicts at each of several points, row by row, in one call: quicker than a call for each.

    It takes no more memory where the graphs of all would be held until one backward pass.
    """
    x_t, t = torch.cat([p.x_t for p in points]), torch.cat([p.t for p in points])
    every = Point(x_t, t, Cond.cat([p.cond for p in points]), tuple(k for p in points for k in p.keys))
    return network(every).split([len(p) for p in points])


def no_mean(point: Point) -> Latents:
    """Stands where no running mean is kept."""
    raise ExpungeError("a running mean is kept where it is asked for: ema is 0; give an `ema` above 0, for example --ema 0.99")


def no_attention(point: Point) -> Maps:
    """Stands where nothing looks inside a network."""
    raise ExpungeError("attention maps come from the trainer: these models were made without; give `Models` an `attention`")


@dataclass(frozen=True)
class Models:
    """The same network under several weights, and what else a method works with.

    `student` carries gradient; `reference` is the untouched model, never does, and remembers what it computed.
    """

    student: Network
    reference: Network
    ema: Network = no_mean
    """The running mean of the student's weights, without gradient; only where `Training.ema` is above 0."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The trained tensors, live: losses on them carry gradient. Under a low-rank scope, the factors."""
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    """The values of `weights` before the first step, without gradient."""
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """What `Objective.prepare` worked out and `Objective.update` has changed since."""
    companion: nn.Module | None = None
    """The network of `Objective.companion`, which is trained beside the student."""
    alphas_cumprod: Float[Tensor, " steps"] = field(default_factory=lambda: torch.ones(0))
    """The noise schedule: abar_t of each timestep."""
    predicts: str = "epsilon"
    """What the network predicts before it is turned into noise, in the words of a diffusers scheduler: epsilon, v_prediction or sample.
    It is the measure of the loss that the model was trained with."""
    attention: Callable[[Point], Maps] = no_attention
    """The student's attention to each token of the prompt, layer by layer, with gradient; it costs what a prediction costs."""

    def fixed_companion(self, *inputs: Tensor) -> Tensor:
        """What the companion says, with gradient into `inputs` but not into its own numbers: for terms that only the student descends."""
        assert self.companion is not None
        held = {name: p.detach() for name, p in self.companion.named_parameters()}
        return torch.func.functional_call(self.companion, held, inputs)


@dataclass(frozen=True)
class Batch:
    """What one step may look at: a function of (seed, step) alone. A part exists only if the method declared it."""

    step: int
    target: Cond
    """The concept's bare prompts, main word and given synonyms."""
    null: Cond
    """The empty prompt, one row."""
    parts: Mapping[Need, Point | Noised | Cond | Spans]

    def _part(self, need: Need) -> Point | Noised | Cond | Spans:
        if need not in self.parts:
            have = ", ".join(sorted(self.parts)) or "nothing"
            raise UndeclaredNeed(f"a batch holds only declared parts: {need!r} was read, {have} declared; add {need!r} to `needs`")
        return self.parts[need]

    @property
    def forget(self) -> Noised:
        """Noised pictures of the concept, each under its full prompt."""
        return self._part("forget")  # type: ignore[return-value]

    @property
    def trajectory(self) -> Point:
        """Points of guided sampling of the concept."""
        return self._part("trajectory")  # type: ignore[return-value]

    @property
    def anchor_pictures(self) -> Noised:
        """Noised pictures of the anchor's prompts, each under the forget prompt whose anchor it is."""
        return self._part("anchor_pictures")  # type: ignore[return-value]

    @property
    def surrogate(self) -> Noised:
        """Noised pictures of what may stand in the concept's place, each under the forget prompt that it stands in for."""
        return self._part("surrogate")  # type: ignore[return-value]

    @property
    def retain(self) -> Noised:
        """Noised pictures of what must survive, each under its own prompt."""
        return self._part("retain")  # type: ignore[return-value]

    @property
    def context(self) -> Cond:
        """Row by row, the forget prompt of the first declared of `LEADS` with the concept deleted."""
        return self._part("context")  # type: ignore[return-value]

    @property
    def marginal(self) -> Cond:
        """Row by row, that forget prompt with another concept of the same domain in its place; for `surrogate`, what the picture shows."""
        return self._part("marginal")  # type: ignore[return-value]

    @property
    def sibling(self) -> Cond:
        """Row by row, that forget prompt with a sibling in the concept's place; where the concept has none, the marginal."""
        return self._part("sibling")  # type: ignore[return-value]

    @property
    def anchor(self) -> Cond:
        """Row by row, that forget prompt with the anchor in the concept's place."""
        return self._part("anchor")  # type: ignore[return-value]

    @property
    def spans(self) -> Spans:
        """Row by row, what each token of that forget prompt is."""
        return self._part("spans")  # type: ignore[return-value]


@dataclass(frozen=True)
class Step:
    """What the training loop yields after each optimizer step."""

    step: int
    """Steps done so far, 1 after the first."""
    steps: int
    terms: Mapping[str, float]
    grad_norm: float

    @property
    def loss(self) -> float:
        return sum(self.terms.values())


@dataclass(frozen=True)
class Row:
    """One measured number with all that is needed to group it."""

    run: str
    """Run id; "base" for the untouched model."""
    method: str
    """Method's registered name; "none" for the untouched model."""
    concept: str
    seed: int
    probe: str
    """The prompt set it was measured on."""
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    """Pictures (or other independent units) behind the number."""
    attack: str = "none"
    """What was done to the model before it was measured."""
    strength: float = 0.0
    """How much of it, in the attack's unit."""
    judge: str = "main"

    def __post_init__(self) -> None:
        if not self.ci_low <= self.value <= self.ci_high:
            raise ValueError(f"an interval holds its value: {self.metric} has {self.value} outside [{self.ci_low}, {self.ci_high}]")
