"""One network in memory under two sets of weights, and the file that holds what changed."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from expunge.cache import read_tensors, write_tensors
from expunge.scope import Scope
from expunge.types import ExpungeError, Latents, Point

FORMAT = "expunge-delta-1"


def fingerprint(*modules: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters: 32 hexadecimal digits that tell one base model from another.

    Values enter as float32, so half-precision weights have one fingerprint however they are held; rounding changes it.
    """
    state = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            state.update(f"{name}{tuple(tensor.shape)}".encode())
            state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return state.hexdigest()[:32]


class TrainState:
    """The trained tensors of a network, in place, beside their initial values.

    The student is the network itself; the reference is the same network called with the initial values put in for the
    trained tensors, so there is never a second one in memory. Trained tensors are kept in float32 whatever the rest is in.
    """

    def __init__(self, net: nn.Module, scope: Scope):
        self.net = net
        self.trained = scope.parameters(net)
        self.initial = {name: p.detach().clone() for name, p in self.trained.items()}
        self._required = {name: p.requires_grad for name, p in net.named_parameters()}
        net.requires_grad_(False)
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def delta(self) -> dict[str, Tensor]:
        """The present values of the trained tensors, float32 on the CPU."""
        return {name: p.detach().to("cpu", torch.float32, copy=True) for name, p in self.trained.items()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Puts saved values in.

        Raises:
            ExpungeError: other tensors than this scope trains.
        """
        if values.keys() != self.trained.keys():
            odd = sorted(values.keys() ^ self.trained.keys())
            raise ExpungeError(f"a checkpoint holds the tensors that are trained: {odd[0]} and {len(odd) - 1} more differ; start afresh")
        for name, parameter in self.trained.items():
            parameter.data.copy_(values[name])

    def relative_change(self) -> float:
        """|| theta - theta_0 || / || theta_0 || over the trained tensors."""
        return relative_change(self.delta(), {k: v.cpu() for k, v in self.initial.items()})

    def release(self) -> None:
        """Gives the network back as it was."""
        for name, parameter in self.net.named_parameters():
            if name in self.initial:
                parameter.data = self.initial[name]
                parameter.grad = None
            parameter.requires_grad_(self._required[name])


def relative_change(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    """|| after - before || / || before ||, Frobenius, over all tensors together."""
    moved = sum((after[k].double() - before[k].double()).square().sum().item() for k in after)
    size = sum(before[k].double().square().sum().item() for k in after)
    return (moved / size) ** 0.5


@dataclass
class Memo:
    """Reference outputs by (point, prompt). A point's reference is computed once in a run, whoever asks for it.

    Rows are kept on the CPU. `fresh` collects the rows computed since `take` was last called, so that a checkpoint can write
    just those: a resumed run then reads the very numbers that the uninterrupted one computed.
    """

    rows: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    fresh: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def put(self, keys: list[tuple[str, str]], values: Latents) -> None:
        # One copy for the whole batch, then views: a row-wise .cpu() would synchronise the device once a row.
        for key, row in zip(keys, values.detach().to("cpu", copy=True), strict=True):
            self.rows[key] = self.fresh[key] = row

    def take(self) -> dict[tuple[str, str], Tensor]:
        fresh, self.fresh = self.fresh, {}
        return fresh


class Predict(Protocol):
    """`eps(point)` of a denoiser, optionally with other values of some tensors."""

    def __call__(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Latents: ...


class Student:
    """The network with gradient."""

    def __init__(self, predict: Predict):
        self.predict, self.calls = predict, 0

    def __call__(self, point: Point) -> Latents:
        self.calls += len(point)
        return self.predict(point).float()


class Reference:
    """The untouched network, without gradient, remembering."""

    def __init__(self, predict: Predict, state: TrainState, memo: Memo):
        self.predict, self.state, self.memo, self.calls = predict, state, memo, 0

    @torch.no_grad()
    def __call__(self, point: Point) -> Latents:
        keys = list(zip(point.keys, point.cond.keys, strict=True))
        missing = [i for i, key in enumerate(keys) if key not in self.memo.rows]
        if missing:
            self.calls += len(missing)
            self.memo.put([keys[i] for i in missing], self.predict(point[missing], self.state.initial).float())
        return torch.stack([self.memo.rows[key] for key in keys]).to(point.x_t.device)


@contextmanager
def swapped(net: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with `values` in place of its own tensors, for as long as the context lasts."""
    parameters = dict(net.named_parameters())
    if unknown := sorted(values.keys() - parameters.keys()):
        raise ExpungeError(f"a delta changes tensors that the model has: {unknown[0]} is none of {type(net).__name__}'s; check the model")
    kept = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value.to(kept[name].device, kept[name].dtype)
        yield
    finally:
        for name, data in kept.items():
            parameters[name].data = data


def save_delta(path: Path, values: Mapping[str, Tensor], base: str) -> None:
    """Writes the changed tensors with the fingerprint of the model that they belong to."""
    # One key alone: the order of several is not the same from one process to the next, and equal deltas are to be equal bytes.
    write_tensors(path, values, {FORMAT: base})


def load_delta(path: Path, base: str | None = None) -> dict[str, Tensor]:
    """Reads the changed tensors.

    Raises:
        ExpungeError: unreadable, not a delta, or made for a model with another fingerprint than `base`.
    """
    values = read_tensors(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:  # pragma: no cover - read_tensors has read it
        raise ExpungeError(str(error)) from error
    if FORMAT not in metadata:
        raise ExpungeError(f"a delta is a file that expunge wrote: {path} is not marked {FORMAT}; give a run's delta.safetensors")
    if base is not None and metadata[FORMAT] != base:
        raise ExpungeError(
            f"a delta belongs to one base model: {path} was made for {metadata[FORMAT]}, this model is {base}; "
            "give the model that it was made from"
        )
    return values
