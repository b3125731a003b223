"""What a run takes, known before its model is loaded: passes, operations, seconds, memory by phase, disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Origin, Subject, Together
from expunge.diffusion.batch import LEADS
from expunge.errors import ExpungeError
from expunge.methods.base import Method, Training
from expunge.methods.config import Before
from expunge.models.loading import Model
from expunge.models.outline import octets_at_rest, octets_of
from expunge.models.passes import Passes, parameters_of
from expunge.models.scopes import size_of
from expunge.models.speed import speed_of
from expunge.progress import Silent
from expunge.runs.cost import Pace, Price, passes_of, prices, together
from expunge.runs.plan import Plan, make_plan
from expunge.storage.cache import Store
from expunge.training.banks import RENDER_BATCH
from expunge.training.batch_size import RenderBatch
from expunge.training.renderer import Renderer
from expunge.training.session import Session

NUMBER = 4
"""Bytes of a number in float32."""

MOMENTS = 2
"""Running means that Adam keeps of each trained number."""


@dataclass(frozen=True)
class Stage:
    """A part of a run that trains one set of weights by one method: the whole run, unless it goes in stages."""

    plan: Plan
    price: Price
    passes: Passes | None
    """Counted for `rows` samples; None for a closed form, and where the family's passes cannot be counted without computing them."""
    pace: Pace | None
    rows: int
    """Samples with gradient whose activations are in memory at once."""

    @property
    def seconds(self) -> float | None:
        """How long it takes, but for loading and writing."""
        if self.plan.training is None:
            return 0.0
        return None if self.pace is None else self.pace.seconds(self.price)

    @property
    def flops(self) -> float | None:
        """Floating-point operations."""
        if self.plan.training is None:
            return 0.0
        if self.passes is None:
            return None
        once = (self.price.forwards - self.price.student) * self.passes.forward.flops + self.price.student * self.passes.both.flops
        return once / self.rows


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Passes are exact; seconds and memory are estimates."""

    session: Session
    plan: Plan
    stages: tuple[Stage, ...]

    @property
    def price(self) -> Price:
        """Passes of one sample, all stages together."""
        return together(stage.price for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """But for loading and writing; None where they cannot be estimated."""
        each = [stage.seconds for stage in self.stages]
        return None if None in each else sum(s for s in each if s is not None)

    @property
    def flops(self) -> float | None:
        """Floating-point operations; a multiplication and an addition are two."""
        each = [stage.flops for stage in self.stages]
        return None if None in each else sum(f for f in each if f is not None)

    @property
    def trained(self) -> int:
        """How many numbers are trained, in the stage that trains most."""
        return max(self._trained(stage) for stage in self.stages)

    @property
    def total(self) -> int:
        """How many numbers the network has."""
        return parameters_of(self.session.model.network)

    @property
    def disk(self) -> int:
        """Bytes of the run's folder: the changed tensors in float32, and while it runs a checkpoint of what is trained."""
        found = max(size_of(self.session.model.scope(s.plan.method.scope)) for s in self.stages)
        return NUMBER * (found + (2 + MOMENTS) * max((self._trained(s) for s in self.stages if s.plan.training), default=0))

    @cached_property
    def memory(self) -> dict[str, int] | None:
        """Bytes on the device by phase, weights included, libraries left out; None where they cannot be estimated."""
        return self.memory_with(self.session.model.quantization)

    def memory_with(self, quantization: str | None) -> dict[str, int] | None:
        """The same if the network's linear layers were stored so, as `--quantize` names it."""
        model = self.session.model
        if any(stage.passes is None for stage in self.stages if stage.plan.training):
            return None
        weights = octets_of(model, quantization)
        phases, working = {"weights": weights}, weights - octets_at_rest(model)
        for stage in self.stages:
            if stage.passes is None or stage.plan.training is None:
                continue
            guided = model.forwards_per_image(model.default_sampler) // model.default_sampler.steps
            images = min(stage.plan.training.pictures, Renderer(self.session, RENDER_BATCH).batch)
            passes = stage.passes.resident(model.device_kind)
            sampling = working + guided * images * passes.forward_octets / stage.rows
            training = working + self._state(stage) + self._whitening(stage) + passes.both_octets + self._banks(stage)
            phases["sampling images to train on"] = max(phases.get("sampling images to train on", 0), int(sampling))
            phases["training"] = max(phases.get("training", 0), int(training))
        return phases

    def _trained(self, stage: Stage) -> int:
        scope = stage.plan.method.scope
        return size_of(self.session.model.scope(scope), scope.rank)

    def _state(self, stage: Stage) -> int:
        """What is kept of each trained number: its value before the run, its gradient, Adam's moments, perhaps a moving average; in half
        precision its value in float32 too."""
        scope, training = stage.plan.method.scope, stage.plan.training
        assert training is not None
        half = self.session.model.dtype.itemsize if self.session.model.dtype.itemsize < NUMBER else 0
        copies = NUMBER * (2 + MOMENTS + bool(training.ema)) + (half if not scope.rank else NUMBER)
        return self._trained(stage) * copies

    def _whitening(self, stage: Stage) -> int:
        """The square matrix of each layer, as wide as its input, where every layer is whitened."""
        if stage.plan.training is None or not (stage.plan.training.whiten and stage.plan.training.whiten_layers):
            return 0
        return NUMBER * sum(p.shape[1] ** 2 for p in self.session.model.scope(stage.plan.method.scope).values() if p.ndim in (2, 4))

    def _banks(self, stage: Stage) -> int:
        """Points with their goals and the reference's predictions there, which are in the computer's memory: the device's on a CPU."""
        model, training = self.session.model, stage.plan.training
        if model.device_kind != "cpu" or training is None:
            return 0
        parts = sum(need in stage.plan.method.needs for need in (*LEADS, "replaced", "retain", "anything", "turned"))
        return NUMBER * math.prod(model.latent_shape) * (3 * training.points * max(parts, 1) + stage.price.reference)


def estimate(
    model: Model,
    concept: str | Subject | Sequence[str | Concept],
    method: str | Method = "mim-mu",
    *,
    together: Together = "joint",
    reference: Origin = "original",
    training: Training | Mapping[str, Any] | None = None,
    seed: int = 0,
    before: Before | Sequence[Before] = (),
    device: str = "auto",
    dtype: str | None = None,
    quantize: str | None = None,
    cache: Store | str | Path | None = None,
    render_batch: RenderBatch = None,
    **settings: Any,
) -> Estimate:
    """What `unlearn` with these arguments would take, from the model's configurations: its weights are not read, and nothing is written but
    the measured speed of the device.

    Passes are counted by going through every step with a network that only counts, and are exact. Seconds follow from the operations of a
    pass, counted on the meta device, and from how fast small probes ran on the device once. Memory follows from the tensors of a pass.

    Raises:
        ExpungeError: any bad input that shows without weights.
    """
    session = Session.open(
        model, device=device, dtype=dtype, quantization=quantize, cache=cache, progress=Silent(), render_batch=render_batch, weights=False
    )
    plan = make_plan(
        session.model, concept, method, training=training, seed=seed, dtype=dtype or session.model.precision,
        together=together, reference=reference, before=before, **settings,
    )  # fmt: skip
    return estimate_plan(plan, session)


def estimate_plan(plan: Plan, session: Session) -> Estimate:
    """The same for a plan. A model without a fingerprint is priced as if nothing were in the cache."""
    stages = plan.stages or (plan,)
    counted: dict[Any, Passes | None] = {}
    made = []
    for stage, price in zip(stages, prices(plan, session), strict=True):
        training, scope = stage.training, stage.method.scope
        rows = 1 if training is None else max(1, -(-price.student // (training.steps * training.accumulate)))
        recomputes = training is not None and training.gradient_checkpointing
        if (scope, rows, recomputes) not in counted:
            counted[scope, rows, recomputes] = _passes(session, stage, rows) if training else None
        passes = counted[scope, rows, recomputes]
        made.append(Stage(stage, price, passes, None if passes is None else _pace(session, passes, rows), rows))
    return Estimate(session, plan, tuple(made))


def _passes(session: Session, stage: Plan, rows: int) -> Passes | None:
    recomputes = stage.training is not None and stage.training.gradient_checkpointing
    try:
        with session.progress.task("counting the operations of a pass, once", 1) as task:
            found = passes_of(session.model, stage.method.scope, rows, recomputes)
            task.advance()
        return found
    except ExpungeError as error:
        if error.rule != "uncountable-passes":
            raise
        return None


def _pace(session: Session, passes: Passes, rows: int) -> Pace:
    speed = speed_of(getattr(session.model, "target", session.model.device), session.model.dtype, session.progress)
    return Pace(speed.seconds(passes.forward) / rows, speed.seconds(passes.both) / rows)
