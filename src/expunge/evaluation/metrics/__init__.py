"""Metrics: judged images in, numbers with intervals out. Imports no torch.

To add one, write its file (a class with `about` and `__call__`) and a line of `METRICS`.
"""

from collections.abc import Collection, Iterable

from expunge.errors import ExpungeError
from expunge.evaluation.metrics.accuracy import CRA, IRA, NRA, ORA, UA, UASynonyms
from expunge.evaluation.metrics.base import Distance, Evidence, Metric, Score, Share
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.metrics.distances import FIDBase, FIDDrawn, KIDBase, KIDDrawn
from expunge.evaluation.metrics.others import OTHERS
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import Interval
from expunge.names import suggest

METRICS: dict[str, Metric] = {
    metric.about.name: metric
    for metric in (
        UA(),
        UASynonyms(),
        IRA(),
        CRA(),
        NRA(),
        ORA(),
        FIDBase(),
        FIDDrawn(),
        KIDBase(),
        KIDDrawn(),
    )
}


def describe(name: str) -> Description:
    """What a metric of that name is; of an unknown one that it is a number, and nothing more."""
    if name in METRICS:
        return METRICS[name].about
    return OTHERS.get(name) or Description(name=name, title=name, form="mean", better="neither")


def described() -> dict[str, Description]:
    """Everything that is measured, in the order of tables."""
    return {name: metric.about for name, metric in METRICS.items()} | OTHERS


def refuse_unknown(names: Iterable[str]) -> None:
    """Refuses a name that is no metric's.

    Raises:
        ExpungeError: rule "unknown-metric".
    """
    for name in names:
        if name not in METRICS:
            hint = suggest(name, METRICS, "`expunge ls metrics`")
            raise ExpungeError(f"{name!r} is not a metric.", rule="unknown-metric", value=name, hint=hint)


def measure(evidence: Evidence, names: Collection[str] | None = None) -> list[Score]:
    """The scores of the named metrics in that order, of all metrics by default. A metric without what it needs gives none.

    Raises:
        ExpungeError: rule "unknown-metric".
    """
    refuse_unknown(names or ())
    return [score for name in (METRICS if names is None else names) for score in METRICS[name](evidence)]
