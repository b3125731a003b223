"""What comes back from work: how a unit went, what a trial of a search found. Light, for whoever only shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """How a unit went."""

    id: str
    name: str
    status: Literal["done", "failed", "taken"]
    """Taken: another process is at it."""
    error: str = ""
    """One line."""


@dataclass(frozen=True)
class Trial:
    """One choice of settings and what came of it."""

    number: int
    settings: Mapping[str, Any]
    forgetting: float | None
    """UA on the hardest tuning concept; None where a unit failed."""
    retention: float | None
    """The least retained share relative to the untouched model's, over metrics and tuning concepts."""
