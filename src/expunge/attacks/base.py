"""What an attack is: it is handed a model that has unlearned a concept, and tries to get a picture of it all the same.

An attack is a frozen dataclass, registered like a method; its fields are its configuration. It never changes the model that it
attacks: what it has found so far it yields, as prompts, weights or both, and whoever audits draws the pictures and has them judged.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.diffusion.types import Cond, Latents
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of
from expunge.storage.tensors import content
from expunge.training.session import Session


@dataclass(frozen=True)
class Victim:
    """The model that is attacked, and what the attacker has."""

    session: Session
    """Its model has the base model's weights; an attack swaps `delta` in (`models.delta.swapped`) while it works."""
    concept: Concept
    delta: Mapping[str, Tensor] = field(default_factory=dict)
    """What unlearning changed; nothing for the untouched model, which is attacked as a control."""
    seed: int = 0
    """Of everything random in the attack, and of the noise that pictures start from: the same for every victim, so that they pair."""
    pictures: int = 24
    """Pictures that each reading of an attack is judged by."""
    folder: Path | None = None
    """Where an attack that trains keeps its checkpoints; None: nowhere."""

    @property
    def model(self) -> DiffusionModel:
        return self.session.model

    @cached_property
    def fingerprint(self) -> str:
        """Tells this victim from any other, for what is kept by content."""
        return f"{self.model.fingerprint}+{content(self.delta)}" if self.delta else self.model.fingerprint

    def asked(self) -> tuple[list[str], list[int]]:
        """The prompts that name the concept, in turn, and the seeds of the noise to draw each from: `pictures` of both."""
        prompts = [p.prompt for p in self.concept.probes()["target"]]
        return [prompts[i % len(prompts)] for i in range(self.pictures)], self.noise_seeds

    @property
    def noise_seeds(self) -> list[int]:
        """Of the pictures by which a reading is judged."""
        return self.noise(self.pictures)

    def noise(self, count: int) -> list[int]:
        """The seeds of so many pictures; fewer are the beginning of more."""
        return [seed_of("attacked", self.seed, i) for i in range(count)]


@dataclass(frozen=True)
class Attacked:
    """A reading: what the attacker has after so much effort. A row of `cond` for each picture to draw."""

    strength: float
    """In the attack's `unit`; 0 is the victim as it is, under plain prompts."""
    cond: Cond
    """Its keys say, for people, what each picture was asked for."""
    noise_seeds: tuple[int, ...]
    weights: Mapping[str, Tensor]
    """Every tensor by which the attacked model differs from the untouched one, the victim's `delta` included."""


class Attack(ABC):
    """Yields readings of rising strength; the first is the victim itself, at strength 0."""

    unit: ClassVar[str] = "steps"
    """What `strength` counts."""
    changes_weights: ClassVar[bool] = True
    """Whether readings have weights of their own; else they are the victim's throughout."""
    teaches: ClassVar[bool] = False
    """Whether its attacker has pictures of the concept and trains on them: in the end it teaches the concept to any model."""
    threat: ClassVar[str] = ""
    """What the attacker must have, in a few words for an auditor: "the weights", "nothing but the prompt box"."""

    @property
    @abstractmethod
    def strengths(self) -> tuple[float, ...]:
        """Of the readings, 0 first."""

    @abstractmethod
    def cost(self, victim: Victim) -> tuple[int, int]:
        """Forwards and backwards of the network, one sample each, that the attack itself takes; drawing its readings comes on top."""

    def trained_on(self, victim: Victim) -> Latents | None:
        """Clean latents of the pictures that it trains on, where it promises that none shows the concept: judges look at them too. None
        where it promises nothing of the kind."""
        return None

    @abstractmethod
    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        """The attack. Between two readings the network may hold any weights; it is left as it was when the iterator ends or is closed.

        Raises:
            NonFiniteLoss: it can go no further. What it has yielded so far stands.
        """


def plain(victim: Victim, strength: float, weights: Mapping[str, Tensor]) -> Attacked:
    """A reading whose pictures are asked for in plain words, under the victim's weights but for those in `weights`."""
    prompts, seeds = victim.asked()
    return Attacked(strength, victim.model.encode(prompts), tuple(seeds), {**victim.delta, **weights})
