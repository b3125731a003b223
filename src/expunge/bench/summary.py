"""What the units of a suite add up to: rows under their labels, pooled over concepts and seeds, and the table of them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from expunge.concepts.tables import target_of
from expunge.evaluation.metrics import METRICS, describe, described
from expunge.evaluation.recognition import is_fit
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval, clustered, student_interval
from expunge.names import RETRAINED
from expunge.runs.folder import Card, read_card

if TYPE_CHECKING:
    from expunge.bench.suite import Unit  # which imports the methods, and with them torch

SHARES = tuple(name for name, metric in METRICS.items() if metric.about.is_share and metric.about.aim)
"""The shares of what should be gone and of what should remain."""
RETAINED = tuple(name for name in SHARES if METRICS[name].about.is_retained)
"""The shares that erasure should leave as they were."""
COSTS = ("seconds", "forwards", "backwards", "memory_bytes")
BASE = "base model"
CONTROL = "retrained, as a control"
SUCCESS = "ASR"
"""The share of an attacker's pictures that show the concept, at the attacker's best."""
AFTER = " after "
"""Stands between a metric and the attack under which it was taken."""


@dataclass(frozen=True)
class Measured:
    """A unit that was measured."""

    label: str
    """Of its method, and of how many concepts it removed and how: what is harder is not pooled with what is not."""
    method: str
    concept: str
    seed: int
    folder: Path
    rows: tuple[Row, ...]
    """Of the run and of the base model; under attacks, of the retrained control too."""
    costs: Mapping[str, float | None]
    stages: tuple[Row, ...] = ()
    """Of the stages of a sequence: how gone each concept was after each."""
    kind: str = ""
    """The kind of its concepts; of several kinds, empty."""
    judges: tuple[str, ...] = ()
    """Its judges, each with the fingerprint of its weights or its version."""
    targets: int = 1
    """How many concepts it removed."""


@dataclass(frozen=True)
class Pooled:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Pictures behind a share, runs behind anything else."""
    of_base: float | None = None
    """A share's ratio to the base model's, on the same concepts and seeds."""


@dataclass(frozen=True)
class Standing:
    """A line of the table."""

    label: str
    method: str
    """Registered name; "none" for the base model."""
    units: int
    metrics: Mapping[str, Pooled]
    """By metric; "UA after ATTACK" under an attack."""
    costs: Mapping[str, Pooled]
    """Median over units with the least and the greatest."""
    unfit: frozenset[str] = frozenset()
    """Metrics whose judge does not recognise the base model's images. They are printed, and nothing follows from them."""

    @property
    def retention(self) -> float | None:
        """The least of the retained shares, relative to the base model's."""
        found = [p.of_base for name, p in self.metrics.items() if p.of_base is not None and not self.is_unfit(name)]
        return min(found) if found else None

    def is_unfit(self, metric: str) -> bool:
        """Whether nothing follows from a metric, under an attack or not, because its judge does not recognise the base model's images."""
        return metric.split(AFTER)[0] in self.unfit


def measured(units: "Iterable[Unit]", out: Path) -> list[Measured]:
    """The units that are measured as the suite says, in order, and what attacks brought back of those that are attacked so."""
    from expunge.bench.runner import is_attacked, missing, read_result  # which imports torch; pages and tables need none

    found = []
    for unit in units:
        folder = out / "runs" / unit.id
        result = read_result(folder)
        if not result or missing(unit, folder):  # or measured under another protocol, which must not be pooled with this one
            continue
        findings = result["findings"] if unit.audit and is_attacked(unit, folder) else ()
        found.append(as_measured(unit, folder, result, read_card(folder), findings))
    return found


def as_measured(unit: "Unit", folder: Path, result: Mapping[str, Any], card: Card, findings: Sequence[Mapping[str, Any]] = ()) -> Measured:
    """A unit with its results, as its `bench.json` and the card of its run hold them."""
    everything, later = [Row(**r) for r in result.get("rows", ())], {stage.id for stage in card.stages}
    rows, stages = (tuple(r for r in everything if (r.run in later) is own) for own in (False, True))
    rows += tuple(row for finding in findings for row in _attacked(finding, card.id, unit))
    costs = {c: result.get(c) if c == "memory_bytes" else card.get(c) for c in COSTS}
    kinds = {t["kind"] for t in unit.concept.get("targets", [unit.concept])}
    kind = kinds.pop() if len(kinds) == 1 else ""
    judges = tuple(f"{name} ({weights})" for name, weights in result.get("judges", ()))
    return Measured(
        _label(unit),
        unit.method,
        target_of(unit.concept),
        unit.seed,
        folder,
        rows,
        costs,
        stages,
        kind,
        judges,
        len(unit.concept.get("targets", (None,))),
    )


def _attacked(finding: Mapping[str, Any], run: str, unit: "Unit") -> Iterator[Row]:
    """What an attack came to: of the run, of the base model and of the control, each under the settings and at the strength that
    bring most of it."""
    sides = ((run, unit.method, "best_unlearned"), ("base", "none", "best_base"), (CONTROL, RETRAINED, "best_retrained"))
    for name, method, key in sides:
        if best := finding[key]:
            about = (name, method, finding["concept"], unit.seed, "target", SUCCESS)
            of = best["value"], best["low"], best["high"], best["pictures"]
            yield Row(*about, *of, finding["attack"], best["strength"], finding["judge"])


def _label(unit: "Unit") -> str:
    count, way = len(unit.concept.get("targets", ())), unit.concept.get("together")
    return f"{unit.label}, {count} {'in sequence' if way == 'sequential' else 'together'}" if count else unit.label


def labelled(found: Iterable[Measured]) -> list[dict[str, Any]]:
    """Long format: every row with the label of its unit."""
    return [asdict(row) | {"label": one.label} for one in found for row in (*one.rows, *one.stages)]


def standings(found: Sequence[Measured], judge: str | None = None) -> list[Standing]:
    """The base model, then every label in order. `judge`: whose labels count; default of each unit the main one, else its first."""
    if not found:
        return []
    found = [_by_judge(m, judge) for m in found]
    base = _standing(BASE, "none", [], _landmark(found, "base"), {})
    unfit = frozenset(m for m, p in base.metrics.items() if AFTER not in m and not is_fit(m, Interval(p.value, p.low, p.high)))
    lines = [base]
    if control := _landmark(found, CONTROL):
        lines.append(_standing(CONTROL, RETRAINED, [], control, {}))
    for label in dict.fromkeys(m.label for m in found):
        mine = [m for m in found if m.label == label]
        rows = [r for m in mine for r in m.rows if r.run not in ("base", CONTROL)]
        lines.append(_standing(label, mine[0].method, mine, rows, _pool(base_rows(mine))))
    return [replace(line, unfit=unfit) for line in lines]


def _by_judge(one: Measured, judge: str | None) -> Measured:
    """A unit with the rows of one judge, and those that need none. Units of a suite may have judges of their own."""
    judges = [r.judge for r in one.rows if r.judge != "none"]
    judge = judge or ("main" if "main" in judges or not judges else judges[0])
    return replace(one, rows=tuple(r for r in one.rows if r.judge in (judge, "none")))


def base_rows(found: Iterable[Measured], judge: str | None = None) -> list[Row]:
    """The base model's, each unit's concept and seed once: every method's unit brings the same ones along. `judge`: default any."""
    return _once(found, judge, "base", lambda m, r: (m.concept, r.concept))


def _landmark(found: Iterable[Measured], run: str) -> list[Row]:
    """The base model's, or the control's, each concept and seed once, also where units remove it alone and beside others; then
    as the first of them has it."""
    return _once(found, None, run, lambda m, r: r.concept)


def _once(found: Iterable[Measured], judge: str | None, run: str, of: Callable[[Measured, Row], Any]) -> list[Row]:
    once: dict[tuple[Any, ...], Row] = {}
    for m in found:
        for r in m.rows:
            if r.run == run and (judge is None or r.judge in (judge, "none")):
                once.setdefault((of(m, r), m.seed, r.metric, r.probe, r.attack, r.judge), r)
    return list(once.values())


def _standing(label: str, method: str, mine: Sequence[Measured], rows: Sequence[Row], base: Mapping[str, Pooled]) -> Standing:
    pooled = {
        name: Pooled(
            p.value, p.low, p.high, p.n, p.value / base[name].value if describe(name).is_retained and base.get(name, p).value else None
        )
        if name in base
        else p
        for name, p in _pool(rows).items()
    }
    costs = {}
    for cost in COSTS:
        if values := [v for m in mine if (v := m.costs.get(cost)) is not None]:
            costs[cost] = Pooled(median(values), min(values), max(values), len(values))
    return Standing(label, method, len(mine), pooled, costs)


def columns(lines: Sequence[Standing]) -> list[str]:
    """Every metric that any line has: shares, distances, then what attacks left."""
    return sorted({m for line in lines for m in line.metrics}, key=_place)


def is_share(metric: str) -> bool:
    """Of a column, under an attack or not."""
    return describe(metric.split(AFTER)[0]).is_share


def _place(metric: str) -> tuple[int, str]:
    order = list(described())
    return order.index(metric) if metric in order else len(order), metric


def _pool(rows: Sequence[Row]) -> dict[str, Pooled]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.metric if row.attack == "none" else f"{row.metric}{AFTER}{row.attack}", []).append(row)
    return {name: (share if is_share(name) else average)(of) for name, of in grouped.items()}


def share(rows: Sequence[Row]) -> Pooled:
    """Shares pooled over all their pictures, with Wilson's interval, widened by as much as concepts differ, or seeds where there is but
    one concept."""
    of = "concept" if len({r.concept for r in rows}) > 1 else "seed"
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(getattr(row, of), []).append(row)
    parts = [(sum(round(r.value * r.n) for r in mine), sum(r.n for r in mine)) for mine in groups.values()]
    return Pooled(*clustered(parts), sum(n for _, n in parts))


def average(rows: Sequence[Row]) -> Pooled:
    """Any other number averaged over concepts, each the mean of its seeds, which are much alike, with Student's interval of that mean;
    over seeds where there is but one concept; of a single run with its own."""
    if len(rows) == 1:
        return Pooled(rows[0].value, rows[0].ci_low, rows[0].ci_high, 1)
    concepts: dict[str, list[float]] = {}
    for row in rows:
        concepts.setdefault(row.concept, []).append(row.value)
    values = list(map(fmean, concepts.values())) if len(concepts) > 1 else [r.value for r in rows]
    return Pooled(*student_interval(values), len(rows))


def markdown(lines: Sequence[Standing], only: Collection[str] | None = None) -> str:
    """The tables for a page of documentation: what was measured and its cost, then, where there were attacks, what they brought back.

    With all columns or some; those that nothing was measured for are left out.
    """
    if not lines:
        return "Nothing is measured yet.\n"
    metrics = [m for m in columns(lines) if only is None or m in only]
    costs = [c for c in COSTS if (only is None or c in only) and any(c in line.costs for line in lines)]
    plainly, attacked = ([m for m in metrics if (AFTER in m) is under] for under in (False, True))
    tables = [_table(lines, plainly, costs)] if plainly or costs else []
    return "\n".join([*tables, *([_table(lines, attacked, ())] if attacked else [])])


def _table(lines: Sequence[Standing], metrics: Sequence[str], costs: Sequence[str]) -> str:
    """Of those lines that have any of it."""
    heads = [*(describe(m).column for m in metrics), *("peak memory, MiB" if c == "memory_bytes" else c for c in costs)]
    rows = ["| method | units | " + " | ".join(heads) + " |"]
    rows.append("|---" * (2 + len(metrics) + len(costs)) + "|")
    for line in lines:
        if not {*line.metrics, *line.costs}.isdisjoint((*metrics, *costs)):
            cells = [_cell(m, line.metrics.get(m), line.is_unfit(m)) for m in metrics] + [_cost(c, line.costs.get(c)) for c in costs]
            rows.append(f"| {line.label} | {line.units or '–'} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _cell(name: str, pooled: Pooled | None, is_unfit: bool = False) -> str:
    if pooled is None:
        return "–"
    if is_unfit:
        return f"({_cell(name, pooled)}: judge unfit)"
    about = describe(name.split(AFTER)[0])
    scale, digits, unit = (100.0, 1, "") if about.is_share else (about.scale, 2, f" {about.unit}" if about.unit else "")
    text, value = _interval(pooled, scale, digits, unit)
    of_base = "" if pooled.of_base is None else f"{100 * pooled.of_base:.1f}"
    return f"{text}, {of_base} % of base" if of_base not in ("", value) else text


def _cost(name: str, pooled: Pooled | None) -> str:
    return "–" if pooled is None else _interval(pooled, 2.0**-20 if name == "memory_bytes" else 1.0, int(name == "seconds"))[0]


def _interval(pooled: Pooled, scale: float, digits: int, unit: str = "") -> tuple[str, str]:
    """A value with its interval, and the value alone."""
    value, low, high = (f"{0.0 if abs(x) < 1e-6 else scale * x:,.{digits}f}" for x in (pooled.value, pooled.low, pooled.high))
    return f"{value}{unit}" if value == low == high else f"{value}{unit} [{low}, {high}]", value
