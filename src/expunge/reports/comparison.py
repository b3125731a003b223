"""How a run's number is compared with the base model's: the one place that decides what counts as a difference."""

import math
from typing import Literal

from expunge.evaluation.results import Row
from expunge.reports.glossary import meaning

Change = Literal["better", "worse", "unclear", "differs"]
"""What may be said of a run beside the base model; `differs` if neither direction is better, `unclear` if no difference is shown."""


def is_apart(one: Row, other: Row) -> bool:
    """Whether two rows differ: their 95 % intervals do not overlap."""
    return one.ci_low > other.ci_high or one.ci_high < other.ci_low


def is_worse(base: Row, run: Row) -> bool:
    """Whether a run is shown to be worse than the base model."""
    return compare_rows(base, run) == "worse"


def compare_rows(base: Row | None, run: Row | None) -> Change | None:
    """How a run compares with the base model; None unless both were measured."""
    if base is None or run is None or not is_comparable(base, run):
        return None
    if not is_apart(run, base):
        return "unclear"
    better = meaning(run.metric).better
    if better == "neither":
        return "differs"
    return "better" if (run.value > base.value) is (better == "higher") else "worse"


def is_comparable(base: Row, run: Row) -> bool:
    """Whether both rows hold a measured number of the same metric. A distance from the base model is never compared with its 0."""
    return base.metric == run.metric and not meaning(run.metric).is_from_base and math.isfinite(run.value - base.value)


def greatest_fall(base: Row, run: Row) -> float:
    """The largest fall from the base model to the run that the intervals allow; 0 if they allow none."""
    return max(0.0, base.ci_high - run.ci_low)
