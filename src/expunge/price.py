"""What a run will cost, known before it is made: the run is rehearsed with a network that only counts."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.cache import Store
from expunge.data import gather
from expunge.denoiser import StableDiffusion
from expunge.objective import Objective
from expunge.plan import Plan
from expunge.scope import Scope
from expunge.types import Models, Point
from expunge.weights import Memo, Reference, Student, TrainState


@dataclass
class Count:
    """Samples that have passed a network. Guidance passes each twice: with its prompt and without."""

    samples: int = 0


@contextmanager
def counted(net: nn.Module) -> Iterator[Count]:
    """Counts what passes `net`, whoever calls it and under whatever weights, for as long as the context lasts.

    What gradient checkpointing computes again is not counted: it is a part of the backward pass.
    """
    count = Count()

    def see(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        count.samples += len(arguments[0])

    hook = net.register_forward_pre_hook(see)
    try:
        yield count
    finally:
        hook.remove()


@dataclass(frozen=True)
class Price:
    """The cost of a run in evaluations of the network, one sample each."""

    pictures: int
    """For the pictures or trajectories of the concept; 0 where the store has them, or a closed form needs none."""
    reference: int
    """Of the untouched model at the bank's points."""
    student: int
    """With gradient: each is a forward and a backward."""

    @property
    def forwards(self) -> int:
        return self.pictures + self.reference + self.student

    @property
    def backwards(self) -> int:
        return self.student


@dataclass(frozen=True)
class Pace:
    """Seconds that one sample takes."""

    forward: float
    both: float
    """Forward and backward."""

    def seconds(self, price: Price) -> float:
        """How long a run of that price takes, but for loading the model and writing files."""
        return (price.pictures + price.reference) * self.forward + price.student * self.both


class Silent(nn.Module):
    """Stands where a network stands and predicts nothing: zeros, through which gradients flow to its one parameter."""

    def __init__(self, net: nn.Module):
        super().__init__()
        first = next(net.parameters())
        self.config = net.config
        self.zero = nn.Parameter(torch.zeros((), dtype=first.dtype, device=first.device))

    def forward(self, x_t: Tensor, t: Tensor, states: Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=x_t * self.zero)


class ReadOnly(Store):
    """A store that gives what it has and keeps nothing new."""

    def put(self, key: str, tensors: Any) -> None:
        pass


def price(plan: Plan, denoiser: StableDiffusion, store: Store) -> Price:
    """Counts the evaluations of a plan by going through its every step; the real network is not called, nothing is written.

    It is exact for whatever method, since it is the method itself that asks: a reference that is needed twice is computed
    once, trajectories bring theirs along, pictures in the store cost nothing. A run that goes on from a checkpoint costs less.
    """
    if not isinstance(plan.method, Objective) or plan.training is None:
        return Price(0, 0, 0)
    known = denoiser.fingerprint  # of the real network; the copy takes it along, and the store's keys need it
    silent = copy.copy(denoiser)
    silent.net = Silent(denoiser.net)
    assert silent.fingerprint == known
    memo, state = Memo(), TrainState(silent.net, Scope("silent", ""))
    with counted(silent.net) as count:
        batches = gather(silent, plan.concept, plan.method.needs, plan.training, plan.seed, ReadOnly(store.root), memo)
        pictures = count.samples
    student, reference = Student(silent), Reference(silent, state, memo)
    for step in range(plan.training.steps):
        for batch in batches.split(step, plan.training.accumulate):
            plan.method(Models(student, reference), batch)
    return Price(pictures, reference.calls, student.calls)


def pace(denoiser: StableDiffusion, scope: Scope, batch: int) -> Pace:
    """Times one forward, and one forward and backward into `scope`, of `batch` samples, each after one for warming up."""
    net, trained = denoiser.net, list(scope.parameters(denoiser.net).values())
    required = [p.requires_grad for p in net.parameters()]
    x_t = torch.zeros(batch, *denoiser.latent_shape, device=denoiser.device)
    t = torch.full((batch,), len(denoiser.alphas_cumprod) // 2, device=denoiser.device)
    point = Point(x_t, t, denoiser.encode([""]).expand(batch), ("",) * batch)

    def forward() -> None:
        with torch.no_grad():
            denoiser(point).sum().item()

    def both() -> None:
        torch.autograd.grad(denoiser(point).sum(), trained)[0].sum().item()

    net.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        return Pace(_seconds(forward) / batch, _seconds(both) / batch)
    finally:
        for parameter, before in zip(net.parameters(), required, strict=True):
            parameter.requires_grad_(before)


def _seconds(action: Callable[[], None]) -> float:
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
