"""What a measurement found, as a table: the untouched model beside the unlearned one."""

from collections.abc import Sequence

from expunge.cli.screen import table
from expunge.types import Row


def measured(rows: Sequence[Row]) -> None:
    """Prints each metric's value before and after, with its 95 % interval and the number of pictures behind it."""
    before = {_key(r): r for r in rows if r.method == "none"}
    after = [r for r in rows if r.method != "none"]
    lines = [(r.metric, r.probe, r.judge, _value(before.get(_key(r))), _value(r), str(r.n)) for r in after]
    table(
        "untouched and unlearned, with 95 % intervals",
        ("metric", "pictures of", "judge", "untouched", "unlearned", "n"),
        lines,
        numbers=("untouched", "unlearned", "n"),
    )


def _key(row: Row) -> tuple[str, str, str]:
    return row.metric, row.probe, row.judge


def _value(row: Row | None) -> str:
    if row is None:
        return ""
    exact = row.ci_low == row.ci_high
    return f"{row.value:.4g}" if exact else f"{row.value:.4g} [{row.ci_low:.4g}, {row.ci_high:.4g}]"
