"""The page of a benchmark: one table with intervals, forgetting against retention, costs, and pictures from the same noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.bench.summary import AFTER, CONTROL, COSTS, RETAINED, SUCCESS, Measured, Pooled, Standing, columns
from expunge.names import RETRAINED
from expunge.reports import words
from expunge.reports.charts.sequence import course, split
from expunge.reports.charts.tradeoff import Bar, Spot, bars, plane
from expunge.reports.images import Album, albums
from expunge.reports.pages.template import filled
from expunge.reports.run_folder import read
from expunge.reports.tables import Column, Group, compare
from expunge.storage.files import write_atomically

PROMPTS = 2
"""Of each probe, shown for each concept; where several were removed at once, the half."""
COST_TITLES = {
    "seconds": "Time",
    "forwards": "Forward passes",
    "backwards": "Backward passes",
    "memory_bytes": "Peak memory above the model",
}


@dataclass(frozen=True)
class Cell:
    """A pooled number ready to print."""

    value: float
    text: str
    interval: str
    of_base: str
    n: int


@dataclass(frozen=True)
class Line:
    """A method in the table."""

    label: str
    colour: int | None
    units: int
    cells: tuple[Cell | None, ...]
    costs: tuple[Cell | None, ...]
    attacked: tuple[Cell | None, ...]
    """What each attack brought back; nothing where none was tried."""


@dataclass(frozen=True)
class Matrix:
    """One concept's pictures: probes down, methods across."""

    concept: str
    seed: int
    columns: tuple[Column, ...]
    albums: tuple[Album, ...]


def write(name: str, found: Sequence[Measured], lines: Sequence[Standing], out: Path) -> Path:
    """Writes the page of a suite to `out` and gives `out` back. It holds all it shows and runs no script.

    `found` gives the pictures, `lines` the numbers. The same of both give the same bytes.
    """
    write_atomically(out, render(name, found, lines).encode())
    return out


def render(name: str, found: Sequence[Measured], lines: Sequence[Standing]) -> str:
    """The page's text."""
    methods = [line.label for line in lines if line.units]
    colours = {label: i for i, label in enumerate(methods)}
    metrics, attacks = ([m for m in columns(lines) if (AFTER in m) is under] for under in (False, True))
    costs = [c for c in COSTS if any(c in line.costs for line in lines)]
    return filled(
        "leaderboard.html.jinja",
        name=name,
        metrics=[(m, words.meaning(m).arrow) for m in metrics],
        costs=[COST_TITLES[c] for c in costs],
        controlled=any(line.label == CONTROL for line in lines),
        attacks=[m.removeprefix(SUCCESS + AFTER) for m in attacks],
        lines=[_line(line, colours.get(line.label), metrics, costs, attacks) for line in lines],
        glossary={m: words.meaning(m) for m in dict.fromkeys(m.split(AFTER)[0] for m in (*metrics, *attacks)) if words.meaning(m).line},
        plane=plane([s for line in lines if (s := _spot(line, colours.get(line.label)))]),
        bars=[drawn for c in costs if (drawn := _bars(c, lines, colours))],
        courses=[c for m in found if m.stages and (c := course(read(m.folder), f"{m.label}, seed {m.seed}"))],
        matrices=[made for concept in dict.fromkeys(m.concept for m in found) for made in _matrices(concept, found, colours)],
        concepts=list(dict.fromkeys(m.concept for m in found)),
        seeds=sorted({m.seed for m in found}),
    )


def _line(line: Standing, colour: int | None, metrics: Sequence[str], costs: Sequence[str], attacks: Sequence[str]) -> Line:
    cells, attacked = (tuple(_cell(m, line.metrics.get(m)) for m in names) for names in (metrics, attacks))
    return Line(line.label, colour, line.units, cells, tuple(_cost(c, line.costs.get(c)) for c in costs), attacked)


def _cell(metric: str, pooled: Pooled | None) -> Cell | None:
    if pooled is None:
        return None
    share = words.meaning(metric.split(AFTER)[0]).share
    value, ratio = words.number(pooled.value, share), "" if pooled.of_base is None else words.number(pooled.of_base, True)
    interval = words.interval(pooled.low, pooled.high, share) if pooled.low < pooled.high else ""
    return Cell(pooled.value, value, interval, "" if ratio in ("", value) else f"{ratio} of base", pooled.n)


def _cost(cost: str, pooled: Pooled | None) -> Cell | None:
    if pooled is None:
        return None
    say = {"seconds": words.duration, "memory_bytes": words.size}.get(cost, words.count)
    interval = f"{say(pooled.low)} to {say(pooled.high)}" if pooled.low < pooled.high else ""
    return Cell(pooled.value, say(pooled.value), interval, "", pooled.n)


def _spot(line: Standing, colour: int | None) -> Spot | None:
    forgetting = line.metrics.get("UA")
    if forgetting is None:
        return None
    landmark = line.method in ("none", RETRAINED)
    kept = [line.metrics[m] for m in RETAINED if m in line.metrics]
    if line.method == "none":
        worst = (1.0, 1.0, 1.0)
    else:
        known = [p for p in kept if p.of_base is not None]
        if not known:
            return None
        least = min(known, key=lambda p: p.of_base or 0.0)
        scale = (least.of_base or 0.0) / least.value if least.value else 1.0
        worst = (least.of_base or 0.0, scale * least.low, scale * least.high)
    label = "retrained" if line.method == RETRAINED else line.label
    return Spot(label, None if landmark else colour, (forgetting.value, forgetting.low, forgetting.high), worst)


def _bars(cost: str, lines: Sequence[Standing], colours: dict[str, int]) -> Markup | None:
    found = [
        Bar(line.label, colours[line.label], p.value, c.text) for line in lines if (p := line.costs.get(cost)) and (c := _cost(cost, p))
    ]
    return bars(COST_TITLES[cost], found) if found else None


def _matrices(concept: str, found: Sequence[Measured], colours: dict[str, int]) -> list[Matrix]:
    """Of the first seed that the concept has, or pictures of different noise would stand side by side. Of several, one for each."""
    seed = min(m.seed for m in found if m.concept == concept)
    ones = [m for m in found if (m.concept, m.seed) == (concept, seed)]
    made = []
    for runs in zip(*(split(read(m.folder)) for m in ones), strict=True):
        columns = tuple(Column(run, m.label, colours[m.label], compare(run)) for run, m in zip(runs, ones, strict=True))
        beside = runs[0].card.beside
        title, limit = (f"{runs[0].card.target}, of {concept}", 1) if beside else (concept, PROMPTS)
        made.append(Matrix(title, seed, columns, tuple(albums(Group(title, columns), limit))))
    return made
