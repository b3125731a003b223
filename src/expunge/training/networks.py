"""The network under each set of weights that training calls it with."""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from expunge.diffusion.networks import no_mean
from expunge.diffusion.types import Latents, Maps, Point
from expunge.models.base import DiffusionModel
from expunge.training.state import TrainState


class Student:
    """The network under the weights in training, with gradient. It counts the samples that pass it."""

    def __init__(self, model: DiffusionModel, state: TrainState | None = None):
        self.model, self.state = model, state
        self.with_gradient = 0
        self.without_gradient = 0

    def __call__(self, point: Point) -> Latents:
        self.count(point)
        return self.model.predict(point, self._weights).float()

    def attention(self, point: Point) -> Maps:
        """The attention maps on the way to a prediction. A call counts as a prediction."""
        self.count(point)
        return [layer.float() for layer in self.model.attention(point, self._weights)]

    def count(self, point: Point) -> None:
        """Counts the samples of a call."""
        if torch.is_grad_enabled():
            self.with_gradient += len(point)
        else:
            self.without_gradient += len(point)

    @property
    def _weights(self) -> dict[str, Tensor] | None:
        """The weights to pass in the call: those of a low-rank scope. Other scopes are trained in place."""
        return self.state.called(self.state.trained) if self.state and self.state.rank else None


class Recalled:
    """The network under the weights in training, but for those that read prompts, which are the reference's; with gradient."""

    def __init__(self, student: Student, state: TrainState, reading: Collection[str]):
        self.student, self.state = student, state
        self.reading = frozenset(reading)

    def __call__(self, point: Point) -> Latents:
        self.student.count(point)
        state = self.state
        kept = {name: state.reference.get(name, state.base[name]) for name in state.base if name in self.reading}
        others = {name: p for name, p in state.called(state.trained).items() if state.rank and not self._reads(name)}
        return self.student.model.predict(point, kept | others).float()

    def _reads(self, name: str) -> bool:
        return name.removesuffix(".A").removesuffix(".B") in self.reading


class EMA:
    """The network under the moving average of the weights, without gradient."""

    def __init__(self, model: DiffusionModel, state: TrainState):
        self.model, self.state, self.calls = model, state, 0

    @torch.no_grad()
    def __call__(self, point: Point) -> Latents:
        if not self.state.ema:
            return no_mean(point)
        self.calls += len(point)
        return self.model.predict(point, self.state.called(self.state.ema)).float()


@dataclass
class ReferenceCache:
    """The reference's predictions by (point, prompt), each computed once in a run.

    Rows are on the CPU. `fresh` holds the rows added since the last `take`, so that a checkpoint writes only those. A resumed run
    reads the numbers that the uninterrupted run computed.
    """

    rows: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    fresh: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def put(self, keys: list[tuple[str, str]], values: Latents) -> None:
        # One copy for the whole batch, then views: a row-wise .cpu() would synchronise the device once a row.
        for key, row in zip(keys, values.detach().to("cpu", copy=True), strict=True):
            self.rows[key] = self.fresh[key] = row

    def take(self) -> dict[tuple[str, str], Tensor]:
        """Returns the fresh rows, which then no longer count as fresh."""
        fresh, self.fresh = self.fresh, {}
        return fresh


class Reference:
    """The network under the reference weights, without gradient. Its predictions are cached."""

    def __init__(self, model: DiffusionModel, state: TrainState, cache: ReferenceCache):
        self.model, self.state, self.cache, self.calls = model, state, cache, 0

    @torch.no_grad()
    def __call__(self, point: Point) -> Latents:
        keys = list(zip(point.keys, point.cond.keys, strict=True))
        missing = [i for i, key in enumerate(keys) if key not in self.cache.rows]
        if missing:
            self.calls += len(missing)
            self.cache.put([keys[i] for i in missing], self.model.predict(point[missing], self.state.reference).float())
        return torch.stack([self.cache.rows[key] for key in keys]).to(point.x_t.device)
