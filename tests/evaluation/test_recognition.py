"""A judge is accepted for a metric if it recognises at least half of the base model's images, interval included."""

import pytest

from expunge.evaluation.recognition import describe_unrecognised, is_fit, is_recognised, unrecognised
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval, wilson


def row(metric: str, hits: int, n: int, run: str = "base", judge: str = "clip") -> Row:
    return Row(run, "none", "neon", 0, "target", metric, *wilson(hits, n), n, judge=judge)


@pytest.mark.parametrize(
    ("metric", "hits", "n", "is_known"),
    [
        ("UA", 0, 16, True),  # the concept is seen in all: [80.6 %, 100 %]
        ("UA", 4, 16, True),  # in 12 of 16: [50.5, 89.8]
        ("UA", 5, 16, False),  # in 11 of 16: [44.4, 85.8]
        ("UA", 16, 16, False),
        ("UA_syn", 16, 16, False),
        ("IRA", 12, 16, True),
        ("IRA", 11, 16, False),
        ("NRA", 0, 100, False),
    ],
)
def test_half_of_the_base_images_interval_included(metric: str, hits: int, n: int, is_known: bool):
    assert is_recognised(row(metric, hits, n)) is is_known


@pytest.mark.parametrize("metric", ["FID_base", "null_drift", "ASR", "mine"])
def test_what_no_recognition_is_behind_needs_none(metric: str):
    assert is_fit(metric, Interval(0.0, 0.0, 0.0))


def test_the_base_models_rows_alone_decide():
    rows = [row("UA", 16, 16), row("IRA", 16, 16), row("UA", 16, 16, run="r1"), row("UA", 0, 16, judge="vit")]
    assert unrecognised(rows) == rows[:1]
    (sentence,) = describe_unrecognised(rows)
    assert all(part in sentence for part in ("clip", "neon", "UA 100 %", "--judge"))
