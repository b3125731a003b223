"""The page of a benchmark: one table with intervals, forgetting against retention, costs, and images from the same noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from expunge.bench.beside import NOT_COMPARABLE, Beside, Pair
from expunge.bench.summary import AFTER, CONTROL, COSTS, RETAINED, SUCCESS, Measured, Pooled, Standing, columns
from expunge.names import RETRAINED
from expunge.progress import duration
from expunge.reports.charts.sequence import course_of
from expunge.reports.charts.tradeoff import Bar, Spot, cost_chart, tradeoff_chart
from expunge.reports.format import count, interval, number, size
from expunge.reports.glossary import arrow_of, is_fraction, meaning
from expunge.reports.images import Album, albums
from expunge.reports.pages.template import fill, origin_of
from expunge.reports.run_view import RunView, read_view, split_by_concept
from expunge.reports.tables import Column, Group, Value, compare
from expunge.storage.files import write_atomically

PROMPTS_OF_PROBE = 2
"""Prompts of each probe that are shown for each concept; of several concepts that were removed together, one."""
COST_TITLES = {
    "seconds": "Time",
    "forwards": "Forward passes",
    "backwards": "Backward passes",
    "memory_bytes": "Peak memory above the model",
}
BASE_MODEL, RETRAINED_MODEL = "base model", "retrained without the concept"


@dataclass(frozen=True)
class MethodLine:
    """The line of a method in the tables."""

    label: str
    colour: int | None
    """None for the base model and the retrained model."""
    units: int
    metrics: tuple[Value | None, ...]
    costs: tuple[Value | None, ...]
    attacks: tuple[Value | None, ...]
    """The attack success rate of each attack."""


@dataclass(frozen=True)
class Matrix:
    """The images of one concept: prompts down, methods across."""

    concept: str
    seed: int
    columns: tuple[Column, ...]
    albums: tuple[Album, ...]


@dataclass(frozen=True)
class Published:
    """The numbers of one source beside ours: methods down, metrics across."""

    source: str
    of: str
    """The concept, or the kind of concepts, that they are about; empty: all of the protocol."""
    metrics: tuple[str, ...]
    lines: tuple[tuple[str, tuple[tuple[Value | None, str], ...]], ...]
    """Each method with our number and the published one of each metric."""


def write_bench_page(name: str, found: Sequence[Measured], lines: Sequence[Standing], out: Path, beside: Beside | None = None) -> Path:
    """Writes the page of a suite to `out`, and returns `out`. It contains all it shows and runs no script.

    `found` gives the images, `lines` the numbers, `beside` what is published. Equal arguments give equal bytes.

    Raises:
        ExpungeError: a broken run folder, or a link out of one; `out` cannot be written.
    """
    write_atomically(out, render_bench_page(name, found, lines, beside).encode())
    return out


def render_bench_page(name: str, found: Sequence[Measured], lines: Sequence[Standing], beside: Beside | None = None) -> str:
    """The text of the page."""
    colours = {label: i for i, label in enumerate(line.label for line in lines if line.units)}
    metrics, attacks = ([m for m in columns(lines) if (AFTER in m) is under] for under in (False, True))
    costs = [c for c in COSTS if any(c in line.costs for line in lines)]
    explained = dict.fromkeys(m.split(AFTER)[0] for m in (*metrics, *attacks))
    views = [(m, read_view(m.folder)) for m in found]
    return fill(
        "bench.html.jinja",
        name=name,
        origin=origin_of(view.card for _, view in views),
        metrics=[(m, arrow_of(m)) for m in metrics],
        costs=[COST_TITLES[c] for c in costs],
        unfit=sorted(lines[0].unfit) if lines else [],
        has_control=any(line.label == CONTROL for line in lines),
        attacks=[m.removeprefix(SUCCESS + AFTER) for m in attacks],
        lines=[_line(line, colours.get(line.label), metrics, costs, attacks) for line in lines],
        glossary={m: of for m in explained if (of := meaning(m))},
        tradeoff=tradeoff_chart([s for line in lines if (s := _spot(line, colours.get(line.label)))]),
        bars=[chart for c in costs if (chart := _bars(c, lines, colours))],
        courses=[c for m, view in views if m.stages and (c := course_of(view, f"{m.label}, seed {m.seed}"))],
        matrices=[made for concept in dict.fromkeys(m.concept for m in found) for made in _matrices(concept, views, colours)],
        concepts=list(dict.fromkeys(m.concept for m in found)),
        seeds=sorted({m.seed for m in found}),
        beside=beside,
        published=_published(beside.pairs) if beside else [],
        not_comparable=NOT_COMPARABLE,
    )


def _published(pairs: Sequence[Pair]) -> list[Published]:
    """A table for each source and concept. Methods that were measured here come first."""
    tables = []
    for source, of in dict.fromkeys((p.source, p.of) for p in pairs):
        mine = [p for p in pairs if (p.source, p.of) == (source, of)]
        metrics = tuple(dict.fromkeys(p.metric for p in mine))
        measured = {p.method: None for p in mine if p.ours}
        cells = {(p.method, p.metric): (_value(p.metric, p.ours, p.is_unfit), _printed(p)) for p in mine}
        methods = dict.fromkeys((*measured, *(p.method for p in mine)))
        tables.append(Published(source, of, metrics, tuple((m, tuple(cells.get((m, x), (None, "")) for x in metrics)) for m in methods)))
    return tables


def _printed(pair: Pair) -> str:
    return number(pair.published, is_fraction(pair.metric.split(AFTER)[0]))


def _line(line: Standing, colour: int | None, metrics: Sequence[str], costs: Sequence[str], attacks: Sequence[str]) -> MethodLine:
    values, attacked = (tuple(_value(m, line.metrics.get(m), line.is_unfit(m)) for m in names) for names in (metrics, attacks))
    return MethodLine(_label(line), colour, line.units, values, tuple(_cost(c, line.costs.get(c)) for c in costs), attacked)


def _label(line: Standing) -> str:
    return BASE_MODEL if line.method == "none" else RETRAINED_MODEL if line.label == CONTROL else line.label


def _value(metric: str, pooled: Pooled | None, is_unfit: bool) -> Value | None:
    if pooled is None:
        return None
    of = is_fraction(metric.split(AFTER)[0])
    text, ratio = number(pooled.value, of), "" if pooled.of_base is None else number(pooled.of_base, True)
    ends = interval(pooled.low, pooled.high, of) if pooled.low < pooled.high else ""
    note = "judge unfit" if is_unfit else "" if ratio in ("", text) else f"{ratio} of base"
    return Value(pooled.value, text, ends, pooled.n, note)


def _cost(cost: str, pooled: Pooled | None) -> Value | None:
    if pooled is None:
        return None
    write = {"seconds": duration, "memory_bytes": size}.get(cost, count)
    ends = f"{write(pooled.low)} to {write(pooled.high)}" if pooled.low < pooled.high else ""
    return Value(pooled.value, write(pooled.value), ends, pooled.n)


def _spot(line: Standing, colour: int | None) -> Spot | None:
    forgetting = line.metrics.get("UA")
    if forgetting is None or line.is_unfit("UA"):
        return None
    is_reference = line.method in ("none", RETRAINED)
    kept = [line.metrics[m] for m in RETAINED if m in line.metrics and not line.is_unfit(m)]
    if line.method == "none":
        worst = (1.0, 1.0, 1.0)
    else:
        known = [p for p in kept if p.of_base is not None]
        if not known:
            return None
        least = min(known, key=lambda p: p.of_base or 0.0)
        scale = (least.of_base or 0.0) / least.value if least.value else 1.0
        worst = (least.of_base or 0.0, scale * least.low, scale * least.high)
    label = "retrained model" if line.method == RETRAINED else _label(line)
    return Spot(label, None if is_reference else colour, (forgetting.value, forgetting.low, forgetting.high), worst)


def _bars(cost: str, lines: Sequence[Standing], colours: dict[str, int]) -> Markup | None:
    found = [
        Bar(line.label, colours[line.label], p.value, v.text) for line in lines if (p := line.costs.get(cost)) and (v := _cost(cost, p))
    ]
    return cost_chart(COST_TITLES[cost], sorted(found, key=lambda bar: bar.value)) if found else None


def _matrices(concept: str, found: Sequence[tuple[Measured, RunView]], colours: dict[str, int]) -> list[Matrix]:
    """The images of the concept's first seed; images from other noise are not comparable. Several concepts have a matrix each."""
    seed = min(m.seed for m, _ in found if m.concept == concept)
    ones = [(m, split_by_concept(view)) for m, view in found if (m.concept, m.seed) == (concept, seed)]
    made = []
    for parts in zip(*(parts for _, parts in ones), strict=True):
        columns = tuple(Column(part, m.label, colours[m.label], compare(part)) for part, (m, _) in zip(parts, ones, strict=True))
        is_one_of_several = bool(parts[0].beside)
        title, limit = (f"{parts[0].card.target}, of {concept}", 1) if is_one_of_several else (concept, PROMPTS_OF_PROBE)
        made.append(Matrix(title, seed, columns, tuple(albums(Group(title, columns), limit))))
    return made
