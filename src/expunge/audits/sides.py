"""The models that an audit attacks, and one attack on one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.audits.budget import Entry
from expunge.audits.cells import Role
from expunge.concepts.concept import Concept
from expunge.evaluation.judges import Judge


@dataclass(frozen=True)
class Side:
    """One of the attacked models."""

    role: Role
    card: Mapping[str, Any] | None
    """The card of its run; None for the base model."""
    delta: Mapping[str, Tensor]
    folder: Path | None = None
    """The folder of its run."""
    never_saw: frozenset[tuple[str, str]] = frozenset()
    """The concepts without which a retrained model was trained, by `Concept.identity`. It is no control for other concepts."""

    @property
    def run(self) -> str:
        """Its run's id; "base" for the base model."""
        return self.card["id"] if self.card else "base"

    @property
    def method(self) -> str:
        """The method of its run; "none" for the base model."""
        return self.card["method"] if self.card else "none"

    def has(self, concept: Concept) -> bool:
        """Whether an audit of the concept attacks this model."""
        return self.role != "retrained" or concept.identity in self.never_saw


@dataclass(frozen=True)
class Cell:
    """One attack on one model: the unit of work."""

    id: str
    entry: Entry
    side: Side
    concept: Concept
    judges: tuple[Judge, ...]

    @property
    def name(self) -> str:
        """The name of the cell in messages."""
        return f"{self.entry.label} on {self.side.role}, {self.concept.target}"
