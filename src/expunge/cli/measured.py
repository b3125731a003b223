"""What a measurement found, as a table: the untouched model beside the unlearned one."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from expunge.cli.screen import table
from expunge.evaluation.results import Row

DUST = 1e-6
"""What is smaller is rounding error of a distance between equal sets, and shown as 0."""


def measured(rows: Sequence[Row], stages: Mapping[str, str] = MappingProxyType({})) -> None:
    """Prints each metric's value before and after, with its 95 % interval and the number of pictures behind it.

    Of a sequence, also how gone each concept was after each of `stages`, the run and the concept of each.
    """
    before = {_key(r): r for r in rows if r.method == "none"}
    after = [r for r in rows if r.method != "none" and r.run not in stages]
    several = len({r.concept for r in after}) > 1
    lines = [
        (*([r.concept] if several else []), r.metric, r.probe, r.judge, _value(before.get(_key(r))), _value(r), str(r.n)) for r in after
    ]
    table(
        "untouched and unlearned, with 95 % intervals",
        (*(["concept"] if several else []), "metric", "pictures of", "judge", "untouched", "unlearned", "n"),
        lines,
        numbers=("untouched", "unlearned", "n"),
    )
    if later := [(stages[r.run], r.concept, r.metric, _value(r), str(r.n)) for r in rows if r.run in stages]:
        table("after each stage", ("after", "concept", "metric", "value", "n"), later, numbers=("value", "n"))


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.concept, row.metric, row.probe, row.judge


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    low, value, high = (f"{0 if abs(x) < DUST else x:.4g}" for x in (row.ci_low, row.value, row.ci_high))
    return value if row.ci_low == row.ci_high else f"{value} [{low}, {high}]"
