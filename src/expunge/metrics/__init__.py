"""Metrics: judged pictures in, numbers with intervals out."""

import difflib
from collections.abc import Iterable

from expunge.metrics.accuracy import CRA as CRA
from expunge.metrics.accuracy import IRA as IRA
from expunge.metrics.accuracy import NRA as NRA
from expunge.metrics.accuracy import ORA as ORA
from expunge.metrics.accuracy import UA as UA
from expunge.metrics.accuracy import UASynonyms as UASynonyms
from expunge.metrics.frechet import FIDBase as FIDBase
from expunge.metrics.frechet import FIDDrawn as FIDDrawn
from expunge.metrics.frechet import fid as fid
from expunge.metrics.intervals import Interval as Interval
from expunge.metrics.kernel import KIDBase as KIDBase
from expunge.metrics.kernel import KIDDrawn as KIDDrawn
from expunge.metrics.kernel import kid as kid
from expunge.metrics.shots import Evidence as Evidence
from expunge.metrics.shots import Metric as Metric
from expunge.metrics.shots import Score as Score
from expunge.metrics.shots import Shots as Shots
from expunge.types import ExpungeError

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
            folded = {known.casefold(): known for known in METRICS}
            close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
            hint = f" (nearest: {folded[close[0]]!r})" if close else ""
            raise ExpungeError(f"a metric is one of {', '.join(METRICS)}: {name!r} is none{hint}; see `expunge ls metrics`")
    return [score for name in names for score in METRICS[name](evidence)]
