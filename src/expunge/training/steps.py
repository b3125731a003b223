"""What the training loop yields after each step."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What the training loop yields after each optimizer step."""

    step: int
    """Steps done so far, 1 after the first."""
    steps: int
    terms: Mapping[str, float]
    grad_norm: float

    @property
    def loss(self) -> float:
        return sum(self.terms.values())
