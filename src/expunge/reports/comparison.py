"""How a run's number is compared with the base model's: the one place that decides what counts as a difference.

Run and base model generate the same prompts from the same noise. A row of a share has the paired change, image by image, and its exact
test decides. Rows without one, such as distances and older results, differ if their 95 % intervals do not overlap.
"""

import math
from typing import Literal

from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval
from expunge.reports.glossary import meaning

Change = Literal["better", "worse", "unclear", "differs"]
"""What may be said of a run beside the base model; `differs` if neither direction is better, `unclear` if no difference is shown."""


def is_worse(base: Row, run: Row) -> bool:
    """Whether a run is shown to be worse than the base model."""
    return compare_rows(base, run) == "worse"


def compare_rows(base: Row | None, run: Row | None) -> Change | None:
    """How a run compares with the base model; None unless both were measured."""
    change = change_of(base, run)
    if change is None or base is None or run is None:
        return None
    if not (run.paired.is_significant if run.paired else is_apart(base, run)):
        return "unclear"
    known = meaning(run.metric)
    better = known.better if known else "neither"
    return "differs" if better == "neither" else "better" if (change.value > 0) is (better == "higher") else "worse"


def change_of(base: Row | None, run: Row | None) -> Interval | None:
    """The run's value minus the base model's, with the paired change's 95 % interval, or with bounds that reading both rows' intervals at
    their ends leaves possible. None if the two are not comparable: a distance from the base model is not compared with its 0.
    """
    if base is None or run is None or base.metric != run.metric or not math.isfinite(run.value - base.value):
        return None
    if (known := meaning(run.metric)) and known.from_base:
        return None
    if paired := run.paired:
        return Interval(paired.value, paired.low, paired.high)
    return Interval(run.value - base.value, run.ci_low - base.ci_high, run.ci_high - base.ci_low)


def greatest_fall(base: Row, run: Row) -> float:
    """The largest fall from the base model to the run that the intervals allow; 0 if they allow none."""
    change = change_of(base, run)
    return max(0.0, -change.low) if change else 0.0


def is_apart(one: Row, other: Row) -> bool:
    """Whether the 95 % intervals of two rows do not overlap, for rows of different images: two judges, or older results."""
    return one.ci_low > other.ci_high or one.ci_high < other.ci_low
