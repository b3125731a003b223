"""The record as a page to read, print and sign."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.evaluation.folder import row_from
from expunge.evaluation.results import Row
from expunge.reports.format import count, interval, number
from expunge.reports.glossary import is_fraction
from expunge.reports.pages.template import fill
from expunge.storage.files import write_atomically, write_json


def write_record(record: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Writes `record.json` and `record.html` into the run's folder, and returns both paths.

    Raises:
        ExpungeError: the folder cannot be written.
    """
    as_json, page = folder / "record.json", folder / "record.html"
    write_atomically(page, render_record(record, folder).encode())
    write_json(as_json, record, indent=2)
    return as_json, page


def render_record(record: Mapping[str, Any], folder: Path) -> str:
    """The text of the page."""
    rows = [row_from(line, folder) for line in record["results"]]
    lines = [_line(row) for row in rows]
    return fill("record.html.jinja", origin="", record=record, lines=lines, number=number, interval=interval)


def _line(row: Row) -> tuple[str, ...]:
    of = is_fraction(row.metric)
    model = "base model" if row.run == "base" else "result"
    return row.concept, row.metric, row.judge, model, number(row.value, of), interval(row.ci_low, row.ci_high, of), count(row.n)
