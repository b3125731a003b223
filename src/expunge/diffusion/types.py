"""Encoded prompts, points on the noise path, and what a network is called with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

Latents = Float[Tensor, "b c h w"]
Times = Real[Tensor, " b"]
"""Timesteps as a scheduler counts them; some stand between two whole ones."""
Maps = list[Float[Tensor, "b _ _ tokens"]]
"""One for each layer of cross-attention, [b, heads, pixels, tokens]: how much each pixel attends to each token, 1 in all."""
Spans = Int[Tensor, "b tokens"]
"""What each token of a prompt is: 1 the concept's, 2 the end of the text, 3 padding, 0 any other."""


@dataclass(frozen=True)
class Cond:
    """Encoded prompts, a row each, with whatever else the model family conditions on.

    `keys` names each row for good (the prompt's text): equal keys mean equal rows, which is what caches rely on.
    """

    states: Float[Tensor, "b tokens width"]
    keys: tuple[str, ...]
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """Further tensors with a leading batch axis, for example `pooled` text embeddings or `time_ids`. `mask`, and those whose name
    begins with `token_`, have a token axis after it, as `states` do."""

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

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Cond":
        """On a device; floating-point tensors in a dtype."""
        return Cond(_moved(self.states, device, dtype), self.keys, {k: _moved(v, device, dtype) for k, v in self.extra.items()})

    @staticmethod
    def cat(parts: "list[Cond]") -> "Cond":
        """All rows of the parts. Shorter rows are padded with zeros, which their `mask` marks as such."""
        longest = max(p.states.shape[1] for p in parts)
        if any(p.states.shape[1] < longest and "mask" not in p.extra for p in parts):
            raise ValueError("conditions of other lengths need a mask, or padding would be read as tokens")
        extra = {k: torch.cat([_padded(p.extra[k], longest) if has_token_axis(k) else p.extra[k] for p in parts]) for k in parts[0].extra}
        states = torch.cat([_padded(p.states, longest) for p in parts])
        return Cond(states, tuple(k for p in parts for k in p.keys), extra)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row without padding, which is behind them; all of them where tensors have no values (on the meta device)."""
        mask = self.extra.get("mask")
        return [self.states.shape[1]] * len(self) if mask is None or mask.is_meta else mask.sum(1).tolist()

    @property
    def trimmed(self) -> "Cond":
        """Without the tokens that are padding in every row."""
        if "mask" not in self.extra:
            return self
        length = max(self.lengths)
        extra = {k: v[:, :length] if has_token_axis(k) else v for k, v in self.extra.items()}
        return Cond(self.states[:, :length], self.keys, extra)

    @property
    def tokens(self) -> Float[Tensor, "n width"]:
        """The states of all tokens of all rows, without padding."""
        return self.states[self.extra["mask"].bool()] if "mask" in self.extra else self.states.flatten(0, 1)


class Repeated(Cond):
    """Rows of another condition, in any order and number, gathered when they are read.

    Choose it where many points share few prompts: it takes the memory of the prompts alone, while a `Cond` has a copy for each point (8 MB
    each for the 512 tokens of a T5). `states` and `extra` gather all rows; `cond[rows]` gathers these rows alone.
    """

    def __init__(self, distinct: Cond, at: Sequence[int]) -> None:
        object.__setattr__(self, "distinct", distinct)
        object.__setattr__(self, "at", list(at))
        object.__setattr__(self, "keys", tuple(distinct.keys[i] for i in at))

    distinct: Cond
    at: list[int]
    """The row of `distinct` that each row is."""

    @property
    def states(self) -> Float[Tensor, "b tokens width"]:  # type: ignore[override]
        """All rows' states."""
        return self.distinct.states[self.at]

    @property
    def extra(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """All rows' further tensors."""
        return {k: v[self.at] for k, v in self.distinct.extra.items()}

    def __getitem__(self, rows: list[int] | slice) -> Cond:
        return self.distinct[self.at[rows] if isinstance(rows, slice) else [self.at[i] for i in rows]]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cond:
        """On a device; floating-point tensors in a dtype."""
        return Repeated(self.distinct.to(device, dtype), self.at)


def has_token_axis(name: str) -> bool:
    """Whether the tensor of this name in `Cond.extra` has a token axis after the batch axis."""
    return name == "mask" or name.startswith("token_")


def _moved(value: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    return value.to(device, dtype if value.is_floating_point() else None)


def _padded(value: Tensor, length: int) -> Tensor:
    """`value` with zeros after the end of its token axis, the second."""
    missing = length - value.shape[1]
    return value if missing == 0 else torch.nn.functional.pad(value, (*[0, 0] * (value.ndim - 2), 0, missing))


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
    """A point made by noising a clean latent, which therefore knows what a perfect network predicts there."""

    goal: Latents
    """In the network's own units: `NoisePath.goal` of the latent and the noise."""

    def __getitem__(self, rows: list[int] | slice) -> "Noised":
        place = super().__getitem__(rows)
        return Noised(place.x_t, place.t, place.cond, place.keys, self.goal[rows])

    @staticmethod
    def cat(parts: "list[Noised]") -> "Noised":
        """All rows of the parts, for one call of the network instead of several."""
        x_t, t, goal = (torch.cat([getattr(p, name) for p in parts]) for name in ("x_t", "t", "goal"))
        return Noised(x_t, t, Cond.cat([p.cond for p in parts]), tuple(k for p in parts for k in p.keys), goal)


@runtime_checkable
class Network(Protocol):
    """A network at a point: what it predicts, in its own units."""

    def __call__(self, point: Point) -> Latents: ...


def together(network: Network, *points: Point) -> tuple[Latents, ...]:
    """What a network predicts at each of several points, row by row, in one call: quicker than a call for each.

    It takes no more memory where the graphs of all would be kept until one backward pass.
    """
    x_t, t = torch.cat([p.x_t for p in points]), torch.cat([p.t for p in points])
    every = Point(x_t, t, Cond.cat([p.cond for p in points]), tuple(k for p in points for k in p.keys))
    return network(every).split([len(p) for p in points])
