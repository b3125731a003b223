"""Stops a run when a judge no longer sees the concept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.evaluation.judges import judge_images, judges_for
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of


@dataclass(frozen=True)
class Gone:
    """Ends a run as soon as a judge sees the concept in (nearly) none of a few pictures of its prompts.

    Choose it for methods that go on hurting after the concept is gone, ascent first, or to find how few steps are enough. The same
    pictures are drawn each time, so the answer is repeatable; they are few, so the end is a sign and no measurement: `expunge eval`
    draws others. A learning rate that falls along a cosine is cut off where it stands. Of several concepts, all must be gone.

    Raises:
        ExpungeError: no judge, or one that does not know the concept.
    """

    rule: ClassVar[str] = "gone"
    """Its name in a configuration."""

    every: Annotated[int, Ge(1)] = 20
    """Steps between two looks. Smaller ends sooner after the concept is gone; each look draws all pictures anew."""
    pictures: Annotated[int, Ge(1)] = 16
    """Pictures of the concept's prompts, spread over them; so many of each of several. More is surer and slower."""
    seen: Annotated[float, Ge(0), Lt(1)] = 0.0
    """The share of pictures that may still show the concept."""
    judge: str | None = None
    """Who looks: main or second of the canvas (main is the default there), a transformers image classifier, or CLIP."""

    def __call__(self, model: DiffusionModel, concept: Subject) -> Callable[[int], bool]:
        looks = [self._look(model, c) for c in concept.parts]
        return lambda steps_done: steps_done % self.every == 0 and all(look() for look in looks)

    def _look(self, model: DiffusionModel, concept: Concept) -> Callable[[], bool]:
        """Says whether a concept is gone, when it is asked."""
        if not (judges := judges_for(self.judge, model, concept)):
            raise ExpungeError(
                f"No judge can say when {concept.target!r} is gone: {model.name} has none of its own.",
                rule="missing-judge",
                value=model.name,
                hint="Try --judge with an image classifier or CLIP.",
            )
        prompts = [p.prompt for p in concept.probes()["target"]]
        chosen = [prompts[i * len(prompts) // self.pictures % len(prompts)] for i in range(self.pictures)]
        seeds = [seed_of("probe", prompt, i) for i, prompt in enumerate(chosen)]

        def look() -> bool:
            labels = judge_images(judges[0], model.sample(chosen, seeds), concept).seen[concept.kind]
            return labels.count(concept.member.name) <= self.seen * self.pictures

        return look


RULES: dict[str, type[Gone]] = {Gone.rule: Gone}
"""The rules that a configuration can name."""
