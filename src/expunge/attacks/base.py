"""The interface of attacks: an attack tries to make a model show a concept that it has unlearned.

An attack is a frozen dataclass, registered like a method. Its fields are its settings. It yields prompts, weights or both, and leaves the
attacked model as it was. The audit samples the images and has them judged.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.diffusion.types import Cond, Latents
from expunge.errors import ExpungeError
from expunge.evaluation.judges import Judge
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler, Start
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
    """The tensors that unlearning changed; empty for the base model, which is attacked as a control."""
    seed: int = 0
    """Seed of everything random in the attack, and of the noise from which images start. It is the same for every victim, so that images
    pair."""
    pictures: int = 24
    """Images by which each reading is judged. More narrow the intervals."""
    folder: Path | None = None
    """The folder of the checkpoints of an attack that trains; None keeps no checkpoints."""
    judge: Judge | None = None
    """What an attacker looks at images with who chooses among them: the audit's first judge."""
    sampler: Sampler | None = None
    """How the images of readings are sampled; None is the model's own."""

    @property
    def model(self) -> DiffusionModel:
        """The session's model."""
        return self.session.model

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the attacked weights, in the names of cached files."""
        return f"{self.model.fingerprint}+{content(self.delta)}" if self.delta else self.model.fingerprint

    def asked(self) -> tuple[list[str], list[int]]:
        """The prompts that name the concept, repeated in order, and the noise seed of each: `pictures` of both."""
        prompts = [p.prompt for p in self.concept.probes()["target"]]
        return [prompts[i % len(prompts)] for i in range(self.pictures)], self.noise_seeds

    def seed_for(self, repeat: int | None) -> int:
        """The seed of what an attack trains on and how: the victim's, or one of its own for each `repeat`. Images are judged from the same
        noise in all."""
        return self.seed if repeat is None else seed_of("repeat", self.seed, repeat)

    @property
    def noise_seeds(self) -> list[int]:
        """The noise seeds of the images by which a reading is judged."""
        return self.noise(self.pictures)

    def noise(self, count: int) -> list[int]:
        """The noise seeds of `count` images. The seeds of fewer images are the first seeds of more."""
        return [seed_of("attacked", self.seed, i) for i in range(count)]


@dataclass(frozen=True)
class Attacked:
    """A reading: the prompts and weights that the attacker has at one strength. `cond` has one row for each image."""

    strength: float
    """The effort, in the attack's `unit`; 0 is the victim without an attack, under plain prompts."""
    cond: Cond
    """The encoded prompts. Its keys are the prompts as text, or a readable name where there is no text."""
    noise_seeds: tuple[int, ...]
    weights: Mapping[str, Tensor]
    """Every tensor in which the attacked model differs from the base model, including the victim's `delta`."""
    start: Start | None = None
    """Where sampling begins, if not from the noise of the seeds: from an image, or from chosen noise. One row for each image."""


Access = Literal["words", "gradients", "weights"]


class Attack(ABC):
    """An attack yields readings of increasing strength. The first is the victim itself, at strength 0."""

    unit: ClassVar[str] = "steps"
    """The unit of `strength`."""
    changes_weights: ClassVar[bool] = True
    """Whether the readings change the victim's weights."""
    teaches: ClassVar[bool] = False
    """Whether the attacker trains on images of the concept, or gives them to the model. Given enough of it, such an attack makes any model
    show the concept."""
    threat: ClassVar[str] = ""
    """What the attacker must have, in a few words: "the weights", "only the prompt"."""

    @classmethod
    def access(cls) -> Access:
        """What the attacker needs, from least to most: words alone, gradients or outputs of the weights, or weights that it changes."""
        return "weights" if cls.changes_weights else "gradients" if "the weights" in cls.threat else "words"

    @property
    @abstractmethod
    def strengths(self) -> tuple[float, ...]:
        """The strengths of the readings, increasing from 0."""

    @abstractmethod
    def cost(self, victim: Victim) -> tuple[int, int]:
        """Forward and backward passes of the network for one sample that the attack makes, without those that sample the images of its
        readings."""

    def trained_on(self, victim: Victim) -> Latents | None:
        """Clean latents of the images that the attack trains on, if none of them should show the concept; the audit has them judged.

        None for an attack that trains on no images, or on images of the concept.
        """
        return None

    @abstractmethod
    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        """Run the attack.

        Between two readings the network may have any weights. Its weights are restored when the iterator ends or is closed.

        Raises:
            NonFiniteLoss: The attack cannot continue. The readings that it has yielded remain valid.
        """


def make_reading(victim: Victim, strength: float, weights: Mapping[str, Tensor]) -> Attacked:
    """A reading under plain prompts, with the victim's weights except for those in `weights`."""
    prompts, seeds = victim.asked()
    return Attacked(strength, victim.model.encode(prompts), tuple(seeds), {**victim.delta, **weights})


def refuse_unordered(attack: Attack) -> None:
    """Refuses settings by which the strengths of an attack do not rise from 0.

    Raises:
        ExpungeError: rule "unordered-strengths".
    """
    strengths = attack.strengths
    if len(strengths) < 2 or any(a >= b for a, b in pairwise(strengths)):
        given = ", ".join(f"{s:g}" for s in strengths[1:]) or "none"
        raise ExpungeError(
            f"The strengths of the readings do not increase from above 0: they are {given} ({attack.unit}).",
            rule="unordered-strengths",
            value=strengths[1:],
            hint="Try at least one strength, in increasing order.",
        )
