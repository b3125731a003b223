"""Attacks whose outcome is known, and a judge who can tell weights apart: a random network draws nothing that one could recognise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim
from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError, Inapplicable
from expunge.evaluation.judges import Judgement
from expunge.models.sampling import Sampler

CALLS: list[str] = []
"""Every attack that was begun, in order."""


def reading(victim: Victim, strength: float, weights: dict[str, Tensor]) -> Attacked:
    prompts, seeds = victim.asked()
    return Attacked(strength, victim.model.encode(prompts), tuple(seeds), weights)


@dataclass(frozen=True)
class Nothing(Attack):
    """Leaves everything as it is."""

    steps: Annotated[int, Ge(1)] = 2
    """Readings after the first."""

    threat: ClassVar[str] = "nothing but <b>patience</b>"

    @property
    def strengths(self) -> tuple[float, ...]:
        return tuple(float(s) for s in range(self.steps + 1))

    def cost(self, victim: Victim) -> tuple[int, int]:
        return 0, 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        CALLS.append(f"nothing on {'unlearned' if victim.delta else 'base'}")
        for strength in self.strengths:
            yield reading(victim, strength, dict(victim.delta))


@dataclass(frozen=True)
class Undo(Nothing):
    """Puts the untouched model's weights back in, at strength 1 and after."""

    steps: Annotated[int, Ge(1)] = 1
    """Readings after the first."""

    def cost(self, victim: Victim) -> tuple[int, int]:
        return 7, 5

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        CALLS.append(f"undo on {'unlearned' if victim.delta else 'base'}")
        net = dict(victim.model.network.named_parameters())
        yield reading(victim, 0.0, dict(victim.delta))
        for strength in self.strengths[1:]:
            yield reading(victim, strength, {n: net[n].detach().clone() for n in victim.delta})


@dataclass(frozen=True)
class Wreck(Nothing):
    """Breaks whatever it attacks: no model draws anything afterwards."""

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield reading(victim, 0.0, dict(victim.delta))
        for strength in self.strengths[1:]:
            yield reading(victim, strength, {n: torch.zeros_like(p) for n, p in victim.model.network.named_parameters()})


@dataclass(frozen=True)
class Careless(Nothing):
    """Says that it trains on other things, and half of its pictures are of the concept."""

    def trained_on(self, victim: Victim) -> Tensor:
        prompts, seeds = victim.asked()
        others = victim.model.encode(["a ring"] * len(prompts))
        sampler = Sampler(1, 1.0)
        return torch.cat([victim.model.sample_latents(c, seeds, sampler).cpu() for c in (victim.model.encode(prompts), others)])


@dataclass(frozen=True)
class Impossible(Nothing):
    """Cannot be made."""

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        raise ExpungeError("The attack needs <i>nothing</i>.", rule="impossible", value=None, hint="Try to leave it out.")
        yield


@dataclass(frozen=True)
class Pointless(Nothing):
    """Has nothing to try."""

    def cost(self, victim: Victim) -> tuple[int, int]:
        raise Inapplicable("an attack has something to try: there is nothing; leave it out")

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        raise Inapplicable("an attack has something to try: there is nothing; leave it out")
        yield


@dataclass(frozen=True)
class Late(Nothing):
    """Forgets to say what the model is like before it begins."""

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield reading(victim, 1.0, dict(victim.delta))


class Witness:
    """A judge who sees the concept in the pictures that the untouched model draws of it, and in no others."""

    def __init__(self, name: str, pictures: Tensor, concept: str, kind: str):
        self.name, self.known, self.concept, self.kind = name, pictures.float(), concept, kind
        self.weights = ""

    def knows(self, member: str, concept: Concept) -> bool:
        return True

    def chance(self, concept: Concept) -> float:
        return 0.1  # of ten styles

    def __call__(self, images: Tensor, concept: Concept) -> Judgement:
        # Drawn beside others, a picture may come out a shade different.
        apart = [(self.known - p.float()).abs().mean((1, 2, 3)).min().item() for p in images]
        seen = tuple(self.concept if a < 1 else "none of <them>" for a in apart)
        return Judgement({self.kind: seen}, torch.zeros(len(images), 1))
