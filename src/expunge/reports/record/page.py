"""The record as a page to read, print and sign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.evaluation.folder import row_from
from expunge.evaluation.results import Row
from expunge.reports.format import count, interval, number
from expunge.reports.pages.template import fill
from expunge.reports.tables import BASE_RUN, Value, value_of
from expunge.reports.text.answers import STATES
from expunge.reports.text.recovery import badge_of, count_of
from expunge.storage.files import write_atomically, write_json


@dataclass(frozen=True)
class Line:
    """A metric by one judge, of the base model and of the result."""

    metric: str
    concept: str
    judge: str
    base: Value | None
    result: Value | None
    n: str


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
    attacked = [_attack(finding) for finding in record["findings"] if finding.get("verdict") in STATES]
    of = {"lines": _lines(rows, record["run"]["id"]), "attacked": attacked, "prompts": _prompts(record["prompts"])}
    return fill("record.html.jinja", origin="", record=record, number=number, interval=interval, **of)


def _lines(rows: Sequence[Row], run: str) -> list[Line]:
    """A line for each metric by each judge. Rows of the stages of a run are in the JSON alone."""
    bases = {_key(row): row for row in rows if row.run == BASE_RUN}
    results = {_key(row): row for row in rows if row.run == run}
    return [
        Line(row.metric, row.concept, row.judge, value_of(bases.get(key)), value_of(results.get(key)), count(row.n))
        for key, row in (bases | results).items()
    ]


def _key(row: Row) -> tuple[str, ...]:
    return row.metric, row.concept, row.judge, row.probe, row.attack


def _prompts(prompts: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Prompts by concept, set and seeds."""
    found: dict[str, list[str]] = {}
    for p in prompts:
        seeds = ", ".join(map(str, p["seeds"]))
        found.setdefault(f"{p['concept']}, {p['probe']}, seeds {seeds}", []).append(p["prompt"] or "(empty)")
    return list(found.items())


def _attack(finding: Mapping[str, Any]) -> tuple[str, ...]:
    about = (str(finding.get(key) or "") for key in ("concept", "attack", "threat"))
    return *about, badge_of(finding)[1], *(count_of(finding, share) for share in ("asr", "asr_before", "asr_retrained"))
