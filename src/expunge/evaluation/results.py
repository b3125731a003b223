"""Results: what was measured, with its interval. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measured number with all that is needed to group it."""

    run: str
    """Run id; "base" for the untouched model."""
    method: str
    """Method's registered name; "none" for the untouched model."""
    concept: str
    seed: int
    probe: str
    """The prompt set it was measured on."""
    metric: str
    value: float
    """Not-a-number, as its interval, where a file gives none."""
    ci_low: float
    ci_high: float
    n: int
    """Images (or other independent units) behind the number; 0 where a file does not say."""
    attack: str = "none"
    """What was done to the model before it was measured."""
    strength: float = 0.0
    """How much of it, in the attack's unit."""
    judge: str = "main"

    def __post_init__(self) -> None:
        if self.ci_low > self.value or self.value > self.ci_high:
            raise ValueError(f"an interval holds its value: {self.metric} has {self.value} outside [{self.ci_low}, {self.ci_high}]")
