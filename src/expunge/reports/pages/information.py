"""The information that the weights hold about concepts: the section on a run's `information/`, in its report and as a page of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from expunge.errors import ExpungeError
from expunge.evaluation.folder import read_rows_file
from expunge.evaluation.results import Row
from expunge.progress import duration
from expunge.reports.charts.retention import Tile, retention_chart
from expunge.reports.format import flat, interval, number
from expunge.reports.images import embed
from expunge.reports.pages.template import fill, origin_of
from expunge.reports.tables import BASE_RUN, Value
from expunge.runs.run import Run
from expunge.storage.files import inner_file, write_atomically
from expunge.storage.json_files import as_number, as_table, as_tables, find_file, read_object

FOLDER, PAGE = "information", "index.html"

INFORMATION_PROBES: dict[str, tuple[str, str]] = {
    "target": ("The concept", "What its name adds to a prompt that names a concept of another kind. Best: 0 or less."),
    "alone": ("The concept alone", "What its name tells in a prompt of its own. Much of this is shared with other concepts."),
    "siblings": ("Siblings", "Best: 1."),
    "same_domain": ("Same kind", "Other concepts of its kind. Best: 1."),
    "cross_domain": ("Other kinds", "Best: 1."),
}
MAPS = ("total", "unique", "redundant", "synergistic")
"""The parts that a map may show, in the order of the page."""


@dataclass(frozen=True)
class InformationLine:
    """The information about one probe or concept in both models, and their ratio."""

    title: str
    about: str
    base: Value | None
    run: Value | None
    ratio: Value | None


@dataclass(frozen=True)
class Map:
    """An image or a map of information, and the sum over the map."""

    uri: str | None
    alt: str
    caption: str
    nats: str


@dataclass(frozen=True)
class MapPair:
    """One image of the concept, with the maps of the base model and of the unlearned model."""

    prompt: str
    other: str
    both: str
    is_joined: bool
    """Whether the prompt with both names is a sentence that the model was trained to read."""
    before: tuple[Map, ...]
    after: tuple[Map, ...]


@dataclass(frozen=True)
class TargetLines:
    """The lines of one removed concept."""

    target: str
    lines: tuple[InformationLine, ...]


@dataclass(frozen=True)
class InformationSection:
    """Everything that a page shows of the information in a run's weights."""

    label: str
    targets: tuple[TargetLines, ...]
    charts: tuple[tuple[str, Markup], ...]
    """A chart for each kind."""
    each: tuple[InformationLine, ...]
    """A line for every concept."""
    maps: tuple[MapPair, ...]
    facts: tuple[tuple[str, str], ...]
    note: str
    """Why these nats are no mutual information, of a distilled model; else empty."""


def information_section(run: Run, pictures: bool = True) -> InformationSection | None:
    """What was measured of a run, or None if nothing was; without images and their maps unless `pictures`.

    Raises:
        ExpungeError: a broken file, or a link out of the run's folder.
    """
    if (file := find_file(run.folder, f"{FOLDER}/rows.jsonl")) is None:
        return None
    rows, card = read_rows_file(file), run.unchecked_card
    listed = find_file(run.folder, f"{FOLDER}/information.json")
    about = read_object(listed) if listed else {}
    concepts = [c for c in as_tables(about.get("concepts")) if c.get("probe")]
    targets = list(dict.fromkeys(r.concept for r in rows if r.probe in INFORMATION_PROBES)) or [card.target or ""]
    named = {str(c["probe"]): (_title(c), f"{c.get('kind')}{', removed' if c.get('removed') else ''}") for c in concepts}
    return InformationSection(
        f"{card.method or card.id} on {card.target}",
        tuple(TargetLines(t, tuple(_lines([r for r in rows if r.concept == t], INFORMATION_PROBES))) for t in targets),
        tuple(_charts(concepts, rows)),
        tuple(_lines([r for r in rows if r.probe in named], named)),
        tuple(_map_pair(entry, run.folder) for entry in as_tables(about.get("maps")) if pictures),
        tuple(_facts(about)),
        str(about.get("note") or ""),
    )


def write_information_page(folder: Path) -> Path:
    """Writes the page of a measured run beside its rows, and returns its path.

    Raises:
        ExpungeError: no run, or no measurement in its folder; a broken file or a link out of the folder.
    """
    run = Run(folder)
    card, section = run.unchecked_card, information_section(run)
    if section is None:
        raise ExpungeError(
            f"The information of the run {folder} was not measured.",
            rule="no-information",
            value=str(folder),
            hint=f"Try `expunge meter {folder}` first.",
        )
    out = folder / FOLDER / PAGE
    write_atomically(out, fill("information.html.jinja", section=section, card=card, origin=origin_of([card])).encode())
    return out


def _lines(rows: Sequence[Row], titles: Mapping[str, tuple[str, str]]) -> list[InformationLine]:
    found = {(r.probe, r.metric, r.run == BASE_RUN): _value(r) for r in rows}
    return [
        InformationLine(
            *titles[p],
            found.get((p, "information", True)),
            found.get((p, "information", False)),
            found.get((p, "information_ratio", False)),
        )
        for p in titles
        if any(key[0] == p for key in found)
    ]


def _value(row: Row) -> Value | None:
    if not math.isfinite(row.value):
        return None
    return Value(row.value, number(row.value), interval(row.ci_low, row.ci_high), row.n)


def _charts(concepts: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    ratios = {r.probe: r for r in rows if r.metric == "information_ratio"}
    kinds: dict[str, list[Tile]] = {}
    for c in concepts:
        if not c.get("alone"):
            row = ratios.get(str(c["probe"]))
            ends = (row.value, row.ci_low, row.ci_high) if row else None
            tile = Tile(str(c.get("family") or ""), str(c.get("name")), bool(c.get("removed")), ends)
            kinds.setdefault(str(c.get("kind")), []).append(tile)
    return [(kind, retention_chart(kind, tiles)) for kind, tiles in kinds.items()]


def _map_pair(entry: Mapping[str, Any], run: Path) -> MapPair:
    files, nats = as_table(entry.get("files")), as_table(entry.get("nats"))

    def maps(model: str, name: str) -> tuple[Map, ...]:
        sums = as_table(nats.get(model))
        image = Map(_embed(run, files.get(model)), f"{name}: {entry.get('given')}", name, "")
        parts = [part for part in MAPS if f"{model}-{part}" in files]
        return (
            image,
            *(Map(_embed(run, files[f"{model}-{p}"]), f"{p}, {name}", p, _nats(sums.get(p))) for p in parts),
        )

    given, other, both = (str(entry.get(key) or "") for key in ("given", "other", "both"))
    return MapPair(given, other, both, entry.get("joined") is not False, maps("base", "base model"), maps("unlearned", "unlearned"))


def _embed(run: Path, name: Any) -> str | None:
    return embed(inner_file(run, f"{FOLDER}/{name}")) if isinstance(name, str) else None


def _nats(value: Any) -> str:
    nats = as_number(value)
    return "" if nats is None else f"{number(round(nats, 1))} nats"


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    ends = about.get("log_snr")
    reach = [("log-SNR", " to ".join(number(as_number(end)) for end in ends))] if isinstance(ends, list) else []
    settings = {name: value for name, value in as_table(about.get("meter")).items() if name != "log_snr"}  # what it came to is there
    return [*flat(settings), *reach, ("time", duration(as_number(about.get("seconds"))))]


def _title(concept: Mapping[str, Any]) -> str:
    return f"{concept.get('name')}{', alone' if concept.get('alone') else ''}"
