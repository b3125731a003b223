"""Whether a judge can judge: it must recognise what prompts name in the base model's images. Imports no torch."""

from collections.abc import Iterable

from expunge.evaluation.metrics import describe
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval

ENOUGH = 0.5
"""A judge is accepted for a metric if the whole interval of its share of recognised base images lies at or above this."""


def recognised_share(metric: str, base: Interval) -> Interval | None:
    """The share of the base model's images in which the judge sees what prompts name, from the base model's value of a metric; None of a
    metric that does not tell."""
    about = describe(metric)
    if not about.is_share or about.aim not in ("forget", "retain"):
        return None
    # UA counts the images in which the concept is missing.
    return base if about.aim == "retain" else Interval(1 - base.value, 1 - base.high, 1 - base.low)


def is_fit(metric: str, base: Interval) -> bool:
    """Whether the judge behind a metric recognises enough of the base model's images, given the base model's value of the metric.

    A judge that does not know a concept calls every model clean, and a judge that knows none of the retained concepts sees no damage.
    True of metrics that are no share of recognised images.
    """
    share = recognised_share(metric, base)
    return share is None or share.low >= ENOUGH


def is_recognised(base: Row) -> bool:
    """`is_fit` of a row of the base model."""
    return is_fit(base.metric, Interval(base.value, base.ci_low, base.ci_high))


def unrecognised(rows: Iterable[Row]) -> list[Row]:
    """Those rows of the base model whose judge does not recognise its images: no verdict follows from the same metric of a run.

    Use it after `expunge.evaluate` and before comparing runs. It is empty if every judge is fit for its metrics.
    """
    return [row for row in rows if row.run == "base" and row.attack == "none" and not is_recognised(row)]


def describe_unrecognised(rows: Iterable[Row]) -> list[str]:
    """One sentence for each judge and concept with unrecognised metrics."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in unrecognised(rows):
        found.setdefault((row.judge, row.concept), []).append(f"{row.metric} {100 * row.value:.0f} %")
    return [
        f"The judge “{judge}” does not recognise what prompts name in the base model's images (concept “{concept}”, base model: "
        f"{', '.join(dict.fromkeys(metrics))}), so these metrics give no verdict. Try another judge with --judge."
        for (judge, concept), metrics in found.items()
    ]
