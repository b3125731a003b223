"""What a run will cost, known before it is made: the run is rehearsed with a network that only counts."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial

import torch
from torch import Tensor

from expunge.diffusion.networks import Models
from expunge.diffusion.types import Maps, Point
from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.models.base import DiffusionModel
from expunge.models.kept_outline import kept
from expunge.models.outline import is_outline, without_network
from expunge.models.passes import Passes, count_passes
from expunge.models.scopes import Scope
from expunge.models.speed import speed_of
from expunge.progress import Silent
from expunge.runs.plan import Plan
from expunge.storage.cache import Store
from expunge.storage.code import code_digest
from expunge.storage.hashing import digest
from expunge.training.batches import gather
from expunge.training.counters import counted
from expunge.training.hooks import make_companion
from expunge.training.layerwise import calls as layerwise_calls
from expunge.training.networks import EMA, Reference, Student
from expunge.training.preconditioner import calls as preconditioner_calls
from expunge.training.session import Session
from expunge.training.state import TrainState


@dataclass(frozen=True)
class Price:
    """The cost of a run in evaluations of the network, one sample each."""

    pictures: int
    """For the images or trajectories of the concept, 0 where the store has them or a closed form needs none; and for whitened steps, where
    it takes the network to find what a weight reads."""
    reference: int
    """Of the base model at the bank's points."""
    student: int
    """With gradient: each is a forward and a backward."""
    glances: int = 0
    """Of the student without gradient, and of its running mean."""

    @property
    def forwards(self) -> int:
        return self.pictures + self.reference + self.student + self.glances

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
        return (price.forwards - price.student) * self.forward + price.student * self.both


@dataclass(frozen=True)
class Rehearsed(Store):
    """A store that writes nothing, and remembers what was put into it: what one stage draws a later one finds."""

    made: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.made or super().__contains__(key)

    def get(self, key: str) -> dict[str, Tensor] | None:
        return self.made.get(key) or super().get(key)

    def put(self, key: str, tensors: Mapping[str, Tensor], shows: Collection[str] | None = None) -> None:
        self.made[key] = dict(tensors)


def prices(plan: Plan, session: Session) -> list[Price]:
    """Of each stage in turn, or of a run that has none."""
    rehearsed = replace(session, cache=Rehearsed(session.cache.root), progress=Silent())
    return [_price(stage, rehearsed) for stage in plan.stages or (plan,)]


def together(each: Iterable[Price]) -> Price:
    """What all of them cost."""
    each = list(each)
    return Price(*(sum(getattr(p, f.name) for p in each) for f in fields(Price)))


def price(plan: Plan, session: Session) -> Price:
    """Counts the evaluations of a plan by preparing it and going through its every step; the real network is not called,
    nothing is written.

    It is exact for every method, because the method itself asks for the evaluations: a reference that is needed twice is computed
    once, trajectories bring their own references, images in the store cost nothing. A run that goes on from a checkpoint costs less.
    A run in stages costs what these cost together.
    """
    return together(prices(plan, session))


def _price(plan: Plan, session: Session) -> Price:
    if not isinstance(plan.method, Objective) or plan.training is None:
        return Price(0, 0, 0)
    model, silent = session.model, without_network(plan.referred(session.model))
    method, training = plan.method, plan.training
    state = TrainState(silent, Scope("silent", ""), decay=training.ema)
    with counted(silent.network) as count:
        batches = gather(replace(session, model=silent), plan.concept, method.needs, training, plan.seed)
        pictures = count.samples
    student, reference, ema = Student(silent, state), Reference(silent, state, batches.references), EMA(silent, state)
    companion = make_companion(method, silent.latent_shape, plan.seed, silent.device)

    def attention(point: Point) -> Maps:
        # A silent network has no layers; what counts is that it is called.
        return [student(point).flatten(1).mean(1)[:, None, None, None].expand(-1, 1, 1, point.cond.states.shape[1])]

    models = Models(student, reference, ema, student, state.trained, state.initial, {}, companion, model.path, attention)
    models = replace(models, notes=method.prepare(models, batches))
    for step in range(training.steps):
        logged: dict[str, float] = {}
        for batch in batches.split(step, training.accumulate):
            for name, value in method(models, batch).items():
                logged[name] = logged.get(name, 0.0) + value.item() / training.accumulate
        models = replace(models, notes={**models.notes, **method.update(models.notes, logged)})
    if training.whiten and training.whiten_layers:
        pictures += layerwise_calls(len(batches.banks["anything"].points))
    else:
        pictures += preconditioner_calls(model, plan.concept, training.whiten, method.scope)
    return Price(pictures, reference.calls, student.with_gradient, student.without_gradient + ema.calls)


def pace(model: DiffusionModel, scope: Scope, batch: int) -> Pace:
    """Times one forward, and one forward and backward into `scope`, of `batch` samples, each after one for warming up. Those of a model
    without weights are estimated from the operations that they take, and from how fast the device is."""
    if is_outline(model):
        return estimated_pace(model, scope, batch)
    net, trained = model.network, list(model.scope(scope).values())
    required = [p.requires_grad for p in net.parameters()]
    x_t = torch.zeros(batch, *model.latent_shape, device=model.device)
    t = model.path.times(torch.full((batch,), 0.5)).to(model.device)
    point = Point(x_t, t, model.null(batch), ("",) * batch)

    def forward() -> None:
        with torch.no_grad():
            model.predict(point).sum().item()

    def both() -> None:
        torch.autograd.grad(model.predict(point).sum(), trained)[0].sum().item()

    net.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        return Pace(_seconds(forward) / batch, _seconds(both) / batch)
    finally:
        for parameter, before in zip(net.parameters(), required, strict=True):
            parameter.requires_grad_(before)


def passes_of(model: DiffusionModel, scope: Scope, batch: int, recomputes: bool = False) -> Passes:
    """The operations and the memory of passes with gradient into `scope`, counted on the meta device.

    Raises:
        ExpungeError: the family's prompts or calls depend on values, which that device does not have.
    """
    found, factors = model.scope(scope), {}
    if rank := scope.rank:
        factors = {f"{n}.A": torch.empty(rank, p.shape[1], device="meta") for n, p in found.items()}
        factors |= {f"{n}.B": torch.empty(p.shape[0], rank, device="meta") for n, p in found.items()}
    try:
        counted = partial(count_passes, model, list(found), factors, batch, recomputes)
        if (place := getattr(model, "place", None)) is None:  # of an outline
            return counted()
        named = digest(list(found), {name: f.shape for name, f in factors.items()}, batch, recomputes, code_digest("expunge.models.passes"))
        return Passes.of(kept(place / f"passes-{named}.json", lambda: asdict(counted())))
    except (RuntimeError, NotImplementedError, ValueError, AttributeError, TypeError) as error:
        raise ExpungeError(
            f"The passes of a {model.family} model need values to be counted: {' '.join(str(error).split())[:200].rstrip('.')}.",
            rule="uncountable-passes",
            value=model.family,
            hint="Try a run of a few --steps, which measures time and memory.",
        ) from error


def estimated_pace(model: DiffusionModel, scope: Scope, batch: int) -> Pace:
    """Seconds of a sample, from counted operations and the measured speed of the device."""
    passes, speed = passes_of(model, scope, batch), speed_of(getattr(model, "target", model.device), model.dtype)
    return Pace(speed.seconds(passes.forward) / batch, speed.seconds(passes.both) / batch)


def _seconds(action: Callable[[], None]) -> float:
    action()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
