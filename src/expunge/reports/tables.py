"""Group-bys: runs into groups that may be compared, rows into tables. Nothing is computed anew; only differences are taken."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from expunge.reports.run_folder import BASE, Row, Run
from expunge.reports.words import METRICS, PROBES, count, interval, meaning, number, points

Change = Literal["better", "worse", "unclear", "differs"]


class Key(NamedTuple):
    """What a row measured. Rows of equal keys may be compared."""

    metric: str
    probe: str
    attack: str


Measured = dict[Key, Row]


@dataclass(frozen=True)
class Compared:
    """What one run and the untouched model measured, by the main judge and by the second."""

    run: Measured
    base: Measured
    second: Measured
    second_base: Measured

    def find(self, metric: str, attack: str = "none") -> tuple[Row | None, Row | None]:
        """The run's row of a metric and the base's, on whichever probe has it."""
        key = next((k for k in self.run if k.metric == metric and k.attack == attack), None)
        return (self.run[key], self.base.get(key)) if key else (None, None)


@dataclass(frozen=True)
class Column:
    """A run within a page: what it is called and which of the chart's colours it has."""

    run: Run
    label: str
    colour: int
    compared: Compared


@dataclass(frozen=True)
class Group:
    """Runs that removed one concept from one model."""

    title: str
    columns: tuple[Column, ...]

    @property
    def keys(self) -> list[Key]:
        """Everything that any of its runs measured: metrics in the glossary's order, then by probe, attacks last."""
        metrics, probes = list(METRICS), list(PROBES)
        found = {k: None for c in self.columns for k in (*c.compared.run, *c.compared.base)}
        return sorted(found, key=lambda k: (k.attack != "none", k.attack, _at(metrics, k.metric), k.metric, _at(probes, k.probe), k.probe))


@dataclass(frozen=True)
class Cell:
    """A number ready to print."""

    value: float
    text: str
    interval: str
    n: int | None


@dataclass(frozen=True)
class MetricLine:
    """A metric of a single run beside the untouched model's."""

    key: Key
    arrow: str
    base: Cell | None
    run: Cell | None
    difference: str
    change: Change | None
    second_base: Cell | None
    second: Cell | None
    disagree: bool
    """The two judges' intervals for the run do not meet."""

    @property
    def pictures(self) -> str:
        """What n was; for both where they differ."""
        found = [c.n for c in (self.base, self.run) if c]
        return " / ".join(dict.fromkeys(count(n) for n in found))


@dataclass(frozen=True)
class RunLine:
    """A run's or the base's row in the table of several runs."""

    label: str
    colour: int | None
    cells: tuple["RunCell", ...]
    """For each key."""


@dataclass(frozen=True)
class RunCell:
    """A number in the table of several runs."""

    cell: Cell | None
    second: Cell | None
    """The second judge's."""
    change: Change | None
    """Against the base."""
    disagree: bool
    """The two judges' intervals do not meet."""


def compare(run: Run) -> Compared:
    """Splits a run's rows by who was measured and who judged. Of rows with equal keys the last one counts.

    The main judge is the one called so, else the first; rows that needed no judge stand with its own.
    """
    rows = run.evaluation.rows if run.evaluation else ()
    judges = [j for j in dict.fromkeys(r.judge for r in rows) if j != "none"]
    main = "main" if "main" in judges or not judges else judges[0]
    second = next((j for j in judges if j != main), "second")

    def of(base: bool, *judges: str) -> Measured:
        return {Key(r.metric, r.probe, r.attack): r for r in rows if (r.run == BASE) is base and r.judge in judges}

    return Compared(of(False, main, "none"), of(True, main, "none"), of(False, second), of(True, second))


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs by concept and model, in the order given."""
    labels = _labels(runs)
    groups: dict[tuple[str | None, ...], list[Column]] = {}
    for run, label in zip(runs, labels, strict=True):
        columns = groups.setdefault((run.card.target, run.card.kind, run.card.model, run.card.fingerprint), [])
        columns.append(Column(run, label, len(columns), compare(run)))
    several_models = len({(k[2], k[3]) for k in groups}) > 1
    return [
        Group(f"{target or 'unnamed concept'}{f' in {model or fingerprint}' if several_models else ''}", tuple(columns))
        for (target, _, model, fingerprint), columns in groups.items()
    ]


def _labels(runs: Sequence[Run]) -> list[str]:
    """The shortest names that tell the runs of one concept apart: the method, else with its seed, else with the run id."""
    short = [f"{run.card.method or run.card.id}{_beside(run)}" for run in runs]
    seeded = [f"{name}, seed {run.card.seed}" for name, run in zip(short, runs, strict=True)]
    full = [f"{name}, {run.card.id}" for name, run in zip(short, runs, strict=True)]

    def clashes(names: list[str]) -> list[bool]:
        keys = [(name, run.card.target) for name, run in zip(names, runs, strict=True)]
        counts = Counter(keys)
        return [counts[k] > 1 for k in keys]

    by_name, by_seed = clashes(short), clashes(seeded)
    return [
        full[i] if by_name[i] and (by_seed[i] or run.card.seed is None) else seeded[i] if by_name[i] else short[i]
        for i, run in enumerate(runs)
    ]


def _beside(run: Run) -> str:
    others, way = run.card.beside, " in sequence" if len(run.card.stages) > 1 + len(run.card.before) else ""
    return f", with {others[0] if len(others) == 1 else f'{len(others)} others'}{way}" if others else ""


def metric_lines(column: Column, keys: Iterable[Key]) -> list[MetricLine]:
    """The table of a single run: a line per metric."""
    found = column.compared
    lines = []
    for key in keys:
        run, base, second = found.run.get(key), found.base.get(key), found.second.get(key)
        second_base, disagree = found.second_base.get(key), bool(run and second and apart(run, second))
        compared = cell(base), cell(run), _difference(run, base), change(run, base), cell(second_base), cell(second), disagree
        lines.append(MetricLine(key, meaning(key.metric).arrow, *compared))
    return lines


def run_lines(group: Group, keys: Sequence[Key]) -> list[RunLine]:
    """The table of several runs: a line per run, the untouched model's first.

    Runs that were evaluated apart may each have brought base rows of their own: each differing set is a line.
    """
    bases: dict[tuple[RunCell, ...], list[str]] = {}
    for column in group.columns:
        cells = tuple(_run_cell(column.compared.base, column.compared.second_base, {}, k) for k in keys)
        bases.setdefault(cells, []).append(column.label)
    measured = {cells: labels for cells, labels in bases.items() if any(c.cell or c.second for c in cells)}
    lines = [
        RunLine("untouched" if len(measured) == 1 else f"untouched, with {', '.join(labels)}", None, cells)
        for cells, labels in measured.items()
    ]
    for column in group.columns:
        found = column.compared
        lines.append(RunLine(column.label, column.colour, tuple(_run_cell(found.run, found.second, found.base, k) for k in keys)))
    return lines


def _run_cell(rows: Measured, seconds: Measured, bases: Measured, key: Key) -> RunCell:
    row, second = rows.get(key), seconds.get(key)
    return RunCell(cell(row), cell(second), change(row, bases.get(key)), bool(row and second and apart(row, second)))


def cell(row: Row | None) -> Cell | None:
    if row is None or not math.isfinite(row.value):
        return None
    share = meaning(row.metric).share
    return Cell(row.value, number(row.value, share), interval(row.ci_low, row.ci_high, share), row.n)


def apart(one: Row, other: Row) -> bool:
    """Two rows whose intervals do not meet: the only difference that this report calls shown."""
    return one.ci_low > other.ci_high or one.ci_high < other.ci_low


def change(run: Row | None, base: Row | None) -> Change | None:
    """How the run compares with the base: None without both measured, "differs" where neither direction is better."""
    if run is None or base is None or meaning(run.metric).from_base or not math.isfinite(run.value - base.value):
        return None
    if not apart(run, base):
        return "unclear"
    better = meaning(run.metric).better
    if better == "neither":
        return "differs"
    return "better" if (run.value > base.value) is (better == "higher") else "worse"


def _difference(run: Row | None, base: Row | None) -> str:
    if run is None or base is None or meaning(run.metric).from_base or not math.isfinite(run.value - base.value):
        return ""
    difference = run.value - base.value
    size = points(difference) if meaning(run.metric).share else number(abs(difference))
    return f"{'+' if difference >= 0 else '−'}{size}"


def _at(order: list[str], word: str) -> int:
    return order.index(word) if word in order else len(order)
