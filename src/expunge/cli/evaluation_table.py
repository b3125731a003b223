"""The table that `expunge eval` and `expunge demo` print: each metric of the base model and of the unlearned model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from expunge.cli.output import print_lines, print_table
from expunge.evaluation.results import Row

if TYPE_CHECKING:
    from expunge.reports.run_view import RunView

ROUNDING_ERROR = 1e-6
"""Smaller values are rounding errors of a distance between equal sets, and printed as 0."""


def print_evaluation(rows: Sequence[Row], stages: Mapping[str, str] = MappingProxyType({})) -> None:
    """Prints each metric before and after, with its 95 % interval and the number of images.

    Args:
        stages: For a sequence, the concept of each stage by the stage's run. A second table then shows each concept after each stage.
    """
    base = {_key(r): r for r in rows if r.method == "none"}
    unlearned = [r for r in rows if r.method != "none" and r.run not in stages]
    is_several = len({r.concept for r in unlearned}) > 1
    lines = []
    for row in unlearned:
        about = (*([row.concept] if is_several else []), row.metric, row.probe.replace("+", " + "), row.judge)
        lines.append((*about, _format(base.get(_key(row))), _format(row), str(row.n)))
    print_table(
        "metrics with 95 % intervals",
        (*(["concept"] if is_several else []), "metric", "prompt set", "judge", "base model", "unlearned", "images"),
        lines,
        numbers=("base model", "unlearned", "images"),
    )
    if later := [(stages[r.run], r.concept, r.metric, _format(r), str(r.n)) for r in rows if r.run in stages]:
        print_table("after each stage", ("stage", "concept", "metric", "value", "images"), later, numbers=("value", "images"))


def print_conclusion(folder: Path) -> None:
    """Prints the notes of a run's evaluation, and its verdict for each concept in one line."""
    from expunge.reports.run_view import read_view

    view = read_view(folder)
    print_lines(*(view.evaluation.notes if view.evaluation else ()))
    print_status(view)


def print_status(view: "RunView") -> None:
    """Prints the verdict on each concept of a run in one line."""
    from expunge.reports.run_view import split_by_concept
    from expunge.reports.text.verdict import status_line

    parts = split_by_concept(view)
    print_lines(*(f"{f'{part.card.target}: ' if len(parts) > 1 else ''}{status_line(part)}" for part in parts))


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.concept, row.metric, row.probe, row.judge


def _format(row: Row | None) -> str:
    if row is None:
        return ""
    low, value, high = (f"{0 if abs(x) < ROUNDING_ERROR else x:.4g}" for x in (row.ci_low, row.value, row.ci_high))
    return value if row.ci_low == row.ci_high else f"{value} [{low}, {high}]"
