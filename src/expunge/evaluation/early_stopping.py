"""Ends a run when a judge no longer sees the concept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.config import NamesCode
from expunge.errors import ExpungeError
from expunge.evaluation.judges import Images, Judge, calibrate_all, judge_images, judges_for, on_base_model
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rendering import RENDER_BATCH, maker
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of
from expunge.training.stopping import Check, StoppingRule


@dataclass(frozen=True)
class Gone(StoppingRule):
    """Ends a run as soon as a judge sees the concept in (nearly) none of a few images of its prompts.

    Choose it for methods that go on to damage the rest after the concept is gone, gradient ascent first, or to find how few steps are
    enough. Every check samples the same images, so that the answer is repeatable. They are few: that a run ended is a sign and not a
    measurement, for which `expunge eval` samples others. A cosine schedule of the learning rate is cut off where it is. Of several
    concepts, all must be gone.

    Raises:
        ExpungeError: no judge, or one that does not know the concept.
    """

    rule: ClassVar[str] = "gone"

    every: Annotated[int, Ge(1)] = 20
    """Steps between two checks. Smaller ends sooner after the concept is gone; each check samples all images anew."""
    pictures: Annotated[int, Ge(1)] = 16
    """Images of each concept, spread over its prompts. More is surer and slower."""
    seen: Annotated[float, Ge(0), Lt(1)] = 0.0
    """The share of images that may still show the concept. Larger ends sooner."""
    judge: Annotated[str | None, NamesCode(but=("nudenet", "vlm", "reference", "by-kind"))] = None
    """The judge, as for `expunge eval`: one of `expunge ls judges`. main is the default on the canvas."""

    def start(self, model: DiffusionModel, concept: Subject) -> Check:
        return _Checks(self.every, [self._check(model, part) for part in concept.parts])

    def _check(self, model: DiffusionModel, concept: Concept) -> "_ConceptCheck":
        if not (judges := judges_for(self.judge, model, concept)):
            raise ExpungeError(
                f"No judge can say when {concept.target!r} is gone: {model.name} has none of its own.",
                rule="missing-judge",
                value=model.name,
                hint="Try --judge with an image classifier or CLIP.",
            )
        judges = on_base_model(judges, partial(_sampled, model))
        calibrate_all(judges, concept)
        prompts = [p.prompt for p in concept.probes()["target"]]
        chosen = [prompts[i * len(prompts) // self.pictures % len(prompts)] for i in range(self.pictures)]
        seeds = [seed_of("probe", prompt, i) for i, prompt in enumerate(chosen)]
        return _ConceptCheck(model, concept, judges[0], chosen, seeds, self.seen * self.pictures)


def _sampled(model: DiffusionModel, shots: Sequence[Shot]) -> Iterator[Images]:
    """The model's images of shots, in chunks."""
    make = maker(model, shots, model.default_sampler)
    for start in range(0, len(shots), RENDER_BATCH):
        yield make(list(range(start, min(start + RENDER_BATCH, len(shots)))))


@dataclass(frozen=True)
class _ConceptCheck:
    """Whether a judge sees one concept in few enough images of fixed prompts and seeds."""

    model: DiffusionModel
    concept: Concept
    judge: Judge
    prompts: list[str]
    seeds: list[int]
    allowed: float

    def is_gone(self) -> bool:
        labels = judge_images(self.judge, self.model.sample(self.prompts, self.seeds), self.concept).seen[self.concept.kind]
        return labels.count(self.concept.member.name) <= self.allowed


@dataclass(frozen=True)
class _Checks:
    """Ends a run when all concepts are gone, asked every few steps."""

    every: int
    concepts: Sequence[_ConceptCheck]

    def is_done(self, steps_done: int) -> bool:
        return steps_done % self.every == 0 and all(check.is_gone() for check in self.concepts)


RULES: dict[str, type[StoppingRule]] = {Gone.rule: Gone}
"""The rules that a configuration can name."""
