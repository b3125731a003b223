"""Pooling by hand-computed numbers."""

from pathlib import Path

import pytest

from expunge.bench.summary import Measured, Pooled, average, markdown, standings
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import clustered, student_interval, wilson


def row(metric: str, value: float, n: int = 10, run: str = "r", judge: str = "main", **more) -> Row:
    method = "none" if run == "base" else "uce"
    named = {"concept": "neon", "seed": 0, "probe": "target", "ci_low": min(value, 0.0), "ci_high": max(value, 1.0)}
    return Row(run=run, method=method, metric=metric, value=value, n=n, judge=judge, **named | more)


def unit(label: str, concept: str, *rows: Row, seconds: float = 1.0) -> Measured:
    return Measured(label, "uce", concept, 0, Path("nowhere"), rows, {"seconds": seconds, "forwards": 0, "memory_bytes": None})


def test_shares_are_pooled_over_pictures_not_over_units():
    """9 of 10 and 10 of 30 are 19 of 40, where the mean of the shares would be .617."""
    [_, line] = standings([unit("A", "neon", row("UA", 0.9)), unit("A", "ring", row("UA", 1 / 3, 30))])
    assert line.metrics["UA"] == Pooled(*wilson(19, 40), 40)
    assert (line.label, line.units) == ("A", 2)


def test_concepts_that_differ_widen_a_share():
    [_, line] = standings([unit("A", "neon", row("UA", 1.0, 50)), unit("A", "ring", row("UA", 0.5, 50, concept="ring"))])
    assert line.metrics["UA"] == Pooled(*clustered([(50, 50), (25, 50)]), 100)
    assert line.metrics["UA"].low < wilson(75, 100).low - 0.3


def test_of_base_is_against_the_same_concepts():
    """A label without ring must not be measured against a base that failed at ring."""
    neon = unit("A", "neon", row("IRA", 0.8), row("IRA", 1.0, run="base"))
    ring = unit("B", "ring", row("IRA", 0.4, concept="ring"), row("IRA", 0.8, run="base", concept="ring"))
    base, a, b = standings([neon, ring])
    assert a.metrics["IRA"].of_base == pytest.approx(0.8)
    assert b.metrics["IRA"].of_base == pytest.approx(0.5)
    assert base.metrics["IRA"].value == pytest.approx(0.9)
    assert (a.retention, base.retention) == (pytest.approx(0.8), None)


def test_the_base_model_counts_once_however_many_methods_bring_it_along():
    """Else its interval would narrow with every method that is added."""
    found = [unit(label, "neon", row("UA", 0.5), row("UA", 0.1, run="base")) for label in "ABC"]
    assert standings(found)[0].metrics["UA"] == Pooled(*wilson(1, 10), 10)


def test_the_base_model_counts_once_though_a_unit_removes_several_concepts():
    alone = unit("A", "neon", row("UA", 0.5), row("UA", 0.1, run="base"))
    together = unit("B", "neon + ring", row("UA", 0.5), row("UA", 0.1, run="base"), row("UA", 0.2, run="base", concept="ring"))
    assert standings([alone, together])[0].metrics["UA"] == Pooled(*clustered([(1, 10), (2, 10)]), 20)


def test_other_numbers_are_means_over_units_and_a_single_one_keeps_its_interval():
    rows = [row("FID_base", v, ci_low=v - 1, ci_high=v + 1) for v in (1.0, 3.0)]
    assert standings([unit("A", "neon", rows[0])])[1].metrics["FID_base"] == Pooled(1.0, 0.0, 2.0, 1)
    both = standings([unit("A", "neon", rows[0], seconds=1.0), unit("A", "ring", rows[1], seconds=4.0)])[1]
    assert both.metrics["FID_base"] == Pooled(*student_interval([1.0, 3.0]), 2)  # two values: t is 12.7
    assert both.costs == {"seconds": Pooled(2.5, 1.0, 4.0, 2), "forwards": Pooled(0, 0, 0, 2)}


def test_seeds_of_a_concept_are_no_further_concepts():
    """Two seeds of each of two concepts, each pair alike: as four runs they would look four times as sure as they are."""
    rows = [
        Row("r", "m", c, s, "null", "null_drift", v, v, v, 1) for c, s, v in (("a", 0, 1.0), ("a", 1, 1.2), ("b", 0, 3.0), ("b", 1, 3.2))
    ]
    assert average(rows) == Pooled(*student_interval([1.1, 3.1]), 4)
    assert average(rows[:2]) == Pooled(*student_interval([1.0, 1.2]), 2)


def test_attacks_and_judges_are_kept_apart():
    rows = [row("UA", 1.0), row("UA", 0.0, judge="second"), row("UA", 0.2, attack="relearn"), row("null_drift", 0.3, judge="none")]
    [_, line] = standings([unit("A", "neon", *rows)])
    assert {m: p.value for m, p in line.metrics.items()} == {"UA": 1.0, "null_drift": 0.3, "UA after relearn": 0.2}
    assert standings([unit("A", "neon", *rows)], "second")[1].metrics["UA"].value == 0.0


def test_the_table_as_markdown():
    found = [unit("A", "neon", row("UA", 0.5), row("IRA", 0.6), row("IRA", 0.8, 20, run="base"), row("KID_base", 0.002, ci_low=0.001))]
    head, _, base, line = markdown(standings(found)).splitlines()
    assert head == "| method | units | UA | IRA | KID to base ×10³ | seconds | forwards |"
    assert base == "| base model | – | – | 80.0 [58.4, 91.9] | – | – | – |"
    assert line == "| A | 1 | 50.0 [23.7, 76.3] | 60.0 [31.3, 83.2], 75.0 % of base | 2.00 [1.00, 1,000.00] | 1.0 | 0 |"
    assert markdown([]) == "Nothing is measured yet.\n"
