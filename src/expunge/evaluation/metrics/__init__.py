"""Metrics: judged pictures in, numbers with intervals out."""

from collections.abc import Iterable

from expunge.errors import ExpungeError
from expunge.evaluation.metrics.accuracy import CRA, IRA, NRA, ORA, UA, UASynonyms
from expunge.evaluation.metrics.base import Evidence, Metric, Score, Shots
from expunge.evaluation.metrics.frechet import FIDBase, FIDDrawn, fid
from expunge.evaluation.metrics.kernel import KIDBase, KIDDrawn, kid
from expunge.evaluation.statistics import Interval
from expunge.names import nearest

__all__ = [
    "CRA",
    "IRA",
    "METRICS",
    "NRA",
    "ORA",
    "UA",
    "Evidence",
    "FIDBase",
    "FIDDrawn",
    "Interval",
    "KIDBase",
    "KIDDrawn",
    "Metric",
    "Score",
    "Shots",
    "UASynonyms",
    "fid",
    "kid",
    "measure",
]  # fmt: skip

METRICS: dict[str, Metric] = {
    "UA": UA(),
    "UA_syn": UASynonyms(),
    "IRA": IRA(),
    "CRA": CRA(),
    "NRA": NRA(),
    "ORA": ORA(),
    "FID_base": FIDBase(),
    "FID_drawn": FIDDrawn(),
    "KID_base": KIDBase(),
    "KID_drawn": KIDDrawn(),
}


def measure(evidence: Evidence, names: Iterable[str] | None = None) -> list[Score]:
    """The scores of the named metrics in that order, of all metrics by default. A metric without what it needs gives none.

    Raises:
        ExpungeError: a name that is no metric's.
    """
    names = list(METRICS if names is None else names)
    for name in names:
        if name not in METRICS:
            raise ExpungeError(
                f"a metric is one of {', '.join(METRICS)}: {name!r} is none{nearest(name, METRICS)}; see `expunge ls metrics`"
            )
    return [score for name in names for score in METRICS[name](evidence)]
