"""Metrics, as a public module: what is measured of judged images, and what a metric of one's own is made of.

A metric is a class with a `Description` in `about` and a `__call__` from `Evidence` to `Score`s; `Share` and `Distance` do most of it.
`METRICS` holds those that `expunge.evaluate` computes, by name.
"""

from expunge.evaluation.metrics import (
    METRICS,
    NETWORKS,
    OTHERS,
    Distance,
    Evidence,
    Mean,
    Measured,
    Metric,
    Score,
    Share,
    describe,
    measure,
)
from expunge.evaluation.metrics.base import pool, shows
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.recognition import is_recognised, unrecognised
from expunge.evaluation.results import Row, Sample
from expunge.evaluation.rows import rows_from_samples
from expunge.evaluation.statistics import Interval, PairedChange

__all__ = [
    "METRICS",
    "NETWORKS",
    "OTHERS",
    "Description",
    "Distance",
    "Evidence",
    "Interval",
    "Mean",
    "Measured",
    "Metric",
    "PairedChange",
    "Row",
    "Sample",
    "Score",
    "Share",
    "describe",
    "is_recognised",
    "measure",
    "pool",
    "rows_from_samples",
    "shows",
    "unrecognised",
]
