"""The results of units and of trials of a search. Imports no torch, so that they can be shown quickly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """How a unit ended."""

    id: str
    name: str
    status: Literal["done", "failed", "taken"]
    """`taken`: another process works on it."""
    error: str = ""
    """The message of a failure, in one line."""


@dataclass(frozen=True)
class Trial:
    """The settings of a trial of a search and their results."""

    number: int
    settings: Mapping[str, Any]
    forgetting: float | None
    """The smallest UA over the tuning concepts; None if a unit failed."""
    retention: float | None
    """The smallest retained share relative to the base model's, over metrics and tuning concepts; None if a unit failed or there is no such
    metric."""
