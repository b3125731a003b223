"""The words everything else is written in: encoded prompts, points on the noise path, batches, models, needs.

Nothing here knows a diffusion library, a file or a device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Latents = Float[Tensor, "b c h w"]
Times = Int[Tensor, " b"]
Terms = dict[str, Float[Tensor, ""]]
"""Named scalar losses; their sum is minimised, each is logged."""

Need = Literal["reference", "forget", "trajectory", "context", "marginal", "anchor", "retain"]
"""What a method may ask for. `target` and `null` are always there."""

NEEDS: dict[Need, str] = {
    "reference": "the untouched model's noise predictions",
    "forget": "pictures of the concept made by the untouched model, noised",
    "trajectory": "points that the untouched model visits while it samples the concept under guidance",
    "context": "each forget prompt with the concept deleted",
    "marginal": "each forget prompt with another concept of the same domain in the concept's place",
    "anchor": "each forget prompt with the anchor in the concept's place",
    "retain": "prompts that must survive",
}


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


@runtime_checkable
class Network(Protocol):
    """A noise predictor. Every family and parameterisation is converted to eps at the edge."""

    def __call__(self, point: Point) -> Latents: ...


@dataclass(frozen=True)
class Models:
    """The same network under several weights.

    `student` carries gradient; `reference` is the untouched model, never does, and remembers what it computed.
    """

    student: Network
    reference: Network


@dataclass(frozen=True)
class Batch:
    """What one step may look at: a function of (seed, step) alone. A part exists only if the method declared it."""

    step: int
    target: Cond
    """The concept's bare prompts, main word and given synonyms."""
    null: Cond
    """The empty prompt, one row."""
    parts: Mapping[Need, Point | Noised | Cond]

    def _part(self, need: Need) -> Point | Noised | Cond:
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
    def context(self) -> Cond:
        """Row by row, the prompt of `forget` (else `trajectory`) with the concept deleted."""
        return self._part("context")  # type: ignore[return-value]

    @property
    def marginal(self) -> Cond:
        """Row by row, the prompt of `forget` (else `trajectory`) with another concept of the same domain in its place."""
        return self._part("marginal")  # type: ignore[return-value]

    @property
    def anchor(self) -> Cond:
        """Row by row, the prompt of `forget` (else `trajectory`) with the anchor in the concept's place."""
        return self._part("anchor")  # type: ignore[return-value]


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
    judge: str = "main"

    def __post_init__(self) -> None:
        if not self.ci_low <= self.value <= self.ci_high:
            raise ValueError(f"an interval holds its value: {self.metric} has {self.value} outside [{self.ci_low}, {self.ci_high}]")
