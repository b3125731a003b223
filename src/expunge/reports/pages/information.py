"""What weights still know: the section on a run's `information/`, in its report and as a page of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from expunge.reports import words
from expunge.reports.charts.retention import Tile, retention
from expunge.reports.images import embed
from expunge.reports.pages.template import filled
from expunge.reports.run_folder import BASE, Card, Row, Run, inside, read, read_json, read_lines, refuse, row_of
from expunge.reports.tables import Cell

FOLDER, PAGE = "information", "index.html"

PROBES: dict[str, tuple[str, str]] = {
    "target": ("The concept", "what its name adds to prompts that name a partner; wanted 0 or less"),
    "alone": ("The concept alone", "what a prompt of nothing else tells, of which much is not the concept's own"),
    "siblings": ("Its siblings", "wanted 1"),
    "same_domain": ("The same kind", "others of its kind; wanted 1"),
    "cross_domain": ("Other kinds", "wanted 1"),
}
MAPS = ("total", "unique", "redundant", "synergistic")
"""The parts that may have been drawn, in the order in which they are shown."""


@dataclass(frozen=True)
class Line:
    """One probe or concept: both models' information, and the ratio."""

    title: str
    about: str
    base: Cell | None
    run: Cell | None
    ratio: Cell | None


@dataclass(frozen=True)
class Map:
    """A drawing, and what it adds up to."""

    uri: str | None
    alt: str
    caption: str
    nats: str


@dataclass(frozen=True)
class Look:
    """One picture of the concept: where its information lies, before and after."""

    prompt: str
    other: str
    both: str
    joined: bool
    """Whether the prompt that names both is a sentence that the model could read."""
    before: tuple[Map, ...]
    after: tuple[Map, ...]


@dataclass(frozen=True)
class Part:
    """One removed concept's lines."""

    target: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """All that a page shows of what a run's weights know."""

    label: str
    parts: tuple[Part, ...]
    tiles: tuple[tuple[str, Markup], ...]
    """A drawing for each kind."""
    each: tuple[Line, ...]
    """A line for every concept."""
    looks: tuple[Look, ...]
    facts: tuple[tuple[str, str], ...]


def section(run: Run) -> Section | None:
    """What was measured of a run, or None where nothing was.

    Raises:
        ExpungeError: a file that is not what its name says.
    """
    folder = run.folder / FOLDER
    if not (folder / "rows.jsonl").is_file():
        return None
    rows = [row_of(line, folder / "rows.jsonl") for line in read_lines(folder / "rows.jsonl")]
    about = read_json(folder / "information.json") if (folder / "information.json").is_file() else {}
    concepts = [c for c in _list(about.get("concepts")) if c.get("probe")]
    targets = list(dict.fromkeys(r.concept for r in rows if r.probe in PROBES)) or [run.card.target or ""]
    parts = tuple(Part(t, tuple(_lines([r for r in rows if r.concept == t], PROBES))) for t in targets)
    named = {str(c["probe"]): (_title(c), f"{c.get('kind')}{', removed' if c.get('removed') else ''}") for c in concepts}
    each = tuple(_lines([r for r in rows if r.probe in named], named))
    looks = tuple(_look(entry, folder) for entry in _list(about.get("maps")))
    return Section(_label(run.card), parts, tuple(_tiles(concepts, rows)), each, looks, tuple(_facts(about)))


def write(folder: Path) -> Path:
    """Writes the page of a measured run beside its rows, and gives its path.

    Raises:
        ExpungeError: no run, or one that was not measured.
    """
    from expunge.storage.files import write_atomically  # which imports torch: a report of sound folders does without

    run = read(folder)
    found = section(run)
    if found is None:
        refuse(f"a page shows what was measured: {folder / FOLDER} has no rows; measure it with `expunge meter {folder}`")
    out = folder / FOLDER / PAGE
    write_atomically(out, filled("information.html.jinja", found=found, card=run.card).encode())
    return out


def _label(card: Card) -> str:
    return f"{card.method or card.id} on {card.target}"


def _lines(rows: Sequence[Row], titles: Mapping[str, tuple[str, str]]) -> list[Line]:
    found = {(r.probe, r.metric, r.run == BASE): _cell(r) for r in rows}
    return [
        Line(
            *titles[p],
            found.get((p, "information", True)),
            found.get((p, "information", False)),
            found.get((p, "information_ratio", False)),
        )
        for p in titles
        if any(key[0] == p for key in found)
    ]


def _cell(row: Row) -> Cell | None:
    if not math.isfinite(row.value):
        return None
    return Cell(row.value, words.number(row.value), words.interval(row.ci_low, row.ci_high), row.n)


def _tiles(concepts: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    ratios = {r.probe: r for r in rows if r.metric == "information_ratio"}
    kinds: dict[str, list[Tile]] = {}
    for c in concepts:
        if not c.get("alone"):
            row = ratios.get(str(c["probe"]))
            ends = (row.value, row.ci_low, row.ci_high) if row else None
            tile = Tile(str(c.get("family") or ""), str(c.get("name")), bool(c.get("removed")), ends)
            kinds.setdefault(str(c.get("kind")), []).append(tile)
    return [(kind, retention(kind, tiles)) for kind, tiles in kinds.items()]


def _look(entry: Mapping[str, Any], folder: Path) -> Look:
    files, nats = _table(entry.get("files")), _table(entry.get("nats"))

    def maps(who: str, when: str) -> tuple[Map, ...]:
        sums = _table(nats.get(who))
        shown = [name for name in MAPS if f"{who}-{name}" in files]
        picture = Map(embed(inside(folder, files.get(who))), f"{when}: {entry.get('given')}", when, "")
        drawn = [Map(embed(inside(folder, files[f"{who}-{name}"])), f"{name}, {when}", name, _nats(sums.get(name))) for name in shown]
        return (picture, *drawn)

    told = [str(entry.get(key) or "") for key in ("given", "other", "both")]
    return Look(told[0], told[1], told[2], entry.get("joined") is not False, maps("base", "before"), maps("unlearned", "after"))


def _nats(value: Any) -> str:
    number = _real(value)
    return f"{words.number(None if number is None else round(number, 1))} nats"


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    ends = about.get("log_snr")
    reach = [("logSNR", " to ".join(words.number(_real(end)) for end in ends))] if isinstance(ends, list) else []
    return [*words.flat(_table(about.get("meter"))), *reach, ("time", words.duration(_real(about.get("seconds"))))]


def _title(concept: Mapping[str, Any]) -> str:
    return f"{concept.get('name')}{', alone' if concept.get('alone') else ''}"


def _real(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
