"""What an audit tells of while it works. Light, for whoever only shows it."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["unlearned", "base", "retrained"]
"""Who is attacked: the run, the untouched model (which shows that the attack works), or one that never saw the concept (which
shows that it does not simply teach it)."""


@dataclass(frozen=True)
class Event:
    """A reading that was taken, or a cell that could not be done."""

    cell: str
    done: float
    """The part of all the work that is behind, by its price."""
    seen: float | None = None
    """The share of pictures in which the first judge sees the concept."""
    strength: str = ""
    """Of the attack, with its unit."""
    error: str = ""
    """One line."""
    applicable: bool = True
    """Whether the cell failed, or had nothing to try on this model."""
