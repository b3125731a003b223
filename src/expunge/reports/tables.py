"""Groups of runs that may be compared, and the cells of their tables."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from expunge.evaluation.results import Row
from expunge.reports.comparison import Change, change_of, compare_rows, is_apart
from expunge.reports.format import count, difference, interval, number
from expunge.reports.glossary import arrow_of, is_fraction, rank_of_metric, rank_of_probe
from expunge.reports.run_view import RunView

BASE_RUN = "base"
"""The run id of the base model's rows."""


class Key(NamedTuple):
    """What a row measured. Rows with equal keys may be compared."""

    metric: str
    probe: str
    attack: str


RowsByKey = dict[Key, Row]


@dataclass(frozen=True)
class Compared:
    """The rows of one run and of the base model, by the main judge and by the second."""

    run: RowsByKey
    base: RowsByKey
    second: RowsByKey
    second_base: RowsByKey
    judges: tuple[str, str] = ("main", "second")
    """The names of both."""

    @property
    def by_second(self) -> "Compared":
        """The rows of the second judge as if it were the main one."""
        return Compared(self.second, self.second_base, {}, {}, self.judges[::-1])

    def find(self, metric: str, attack: str = "none") -> tuple[Row | None, Row | None]:
        """The rows of a metric, of the run and of the base model, on whichever probe has it."""
        key = next((k for k in self.run if k.metric == metric and k.attack == attack), None)
        return (self.run[key], self.base.get(key)) if key else (None, None)


@dataclass(frozen=True)
class Column:
    """A run on a page, with its label and the number of its colour."""

    view: RunView
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
        """Everything that a run of the group measured: by metric and probe in the order of the glossary, attacks last."""
        found = {k: None for c in self.columns for k in (*c.compared.run, *c.compared.base)}
        return sorted(found, key=_place)


@dataclass(frozen=True)
class Value:
    """A number ready to print."""

    value: float
    text: str
    interval: str
    n: int
    """Images behind it; 0 if the file does not say."""
    note: str = ""


@dataclass(frozen=True)
class MetricLine:
    """The line of a metric in the table of a single run."""

    key: Key
    arrow: str
    base: Value | None
    run: Value | None
    difference: Value | None
    """The run's value minus the base model's, with the interval of the paired change if there is one."""
    change: Change | None
    second_base: Value | None
    second: Value | None
    disagree: bool
    """The intervals of the two judges for the run do not overlap."""

    @property
    def images(self) -> str:
        """The number of images; of the base model and of the run if they differ."""
        return " / ".join(dict.fromkeys(count(v.n) for v in (self.base, self.run) if v and v.n))


@dataclass(frozen=True)
class RunCell:
    """A number in the table of several runs."""

    value: Value | None
    second: Value | None
    """By the second judge."""
    change: Change | None
    """Compared with the base model."""
    disagree: bool
    """The intervals of the two judges do not overlap."""


@dataclass(frozen=True)
class RunLine:
    """The line of a run, or of the base model, in the table of several runs."""

    label: str
    colour: int | None
    """None for the base model."""
    cells: tuple[RunCell, ...]
    """One for each key of the group."""


def compare(view: RunView) -> Compared:
    """Sorts the rows of a run by model and judge. Of rows with equal keys the last one counts.

    The main judge is the one called "main", else the first one. Rows that need no judge are with the main judge's.
    """
    rows = view.evaluation.rows if view.evaluation else ()
    judges = [j for j in dict.fromkeys(r.judge for r in rows) if j != "none"]
    main = "main" if "main" in judges or not judges else judges[0]
    second = next((j for j in judges if j != main), "second")

    def of(is_base: bool, *judges: str) -> RowsByKey:
        return {Key(r.metric, r.probe, r.attack): r for r in rows if (r.run == BASE_RUN) is is_base and r.judge in judges}

    return Compared(of(False, main, "none"), of(True, main, "none"), of(False, second), of(True, second), (main, second))


def group_runs(views: Sequence[RunView]) -> list[Group]:
    """Runs by concept and model, in the order given."""
    groups: dict[tuple[str | None, ...], list[Column]] = {}
    for view, label in zip(views, _labels(views), strict=True):
        card = view.card
        columns = groups.setdefault((card.target, card.kind, card.model, card.fingerprint), [])
        columns.append(Column(view, label, len(columns), compare(view)))
    several_models = len({(k[2], k[3]) for k in groups}) > 1
    return [
        Group(f"{target or 'unnamed concept'}{f' in {model or fingerprint}' if several_models else ''}", tuple(columns))
        for (target, _, model, fingerprint), columns in groups.items()
    ]


def metric_lines(column: Column, keys: Iterable[Key]) -> list[MetricLine]:
    """The table of a single run: a line for each metric."""
    found, lines = column.compared, []
    for key in keys:
        run, base, second = found.run.get(key), found.base.get(key), found.second.get(key)
        lines.append(
            MetricLine(
                key,
                arrow_of(key.metric),
                value_of(base),
                value_of(run),
                _difference(base, run),
                compare_rows(base, run),
                value_of(found.second_base.get(key)),
                value_of(second),
                bool(run and second and is_apart(run, second)),
            )
        )
    return lines


def run_lines(group: Group, keys: Sequence[Key]) -> list[RunLine]:
    """The table of several runs: a line for each run, the base model first.

    Runs that were evaluated separately may have different rows of the base model: each different set is a line.
    """
    bases: dict[tuple[RunCell, ...], list[str]] = {}
    for column in group.columns:
        cells = tuple(_run_cell(column.compared.base, column.compared.second_base, {}, k) for k in keys)
        bases.setdefault(cells, []).append(column.label)
    measured = {cells: labels for cells, labels in bases.items() if any(c.value or c.second for c in cells)}
    lines = [
        RunLine("base model" if len(measured) == 1 else f"base model, evaluated with {', '.join(labels)}", None, cells)
        for cells, labels in measured.items()
    ]
    for column in group.columns:
        found = column.compared
        lines.append(RunLine(column.label, column.colour, tuple(_run_cell(found.run, found.second, found.base, k) for k in keys)))
    return lines


def value_of(row: Row | None) -> Value | None:
    """A row's number ready to print; None if there is none."""
    if row is None or not math.isfinite(row.value):
        return None
    of = is_fraction(row.metric)
    return Value(row.value, number(row.value, of), interval(row.ci_low, row.ci_high, of), row.n)


def _difference(base: Row | None, run: Row | None) -> Value | None:
    if run is None or (change := change_of(base, run)) is None:
        return None
    of = is_fraction(run.metric)
    ends = f"{difference(change.low, of)} to {difference(change.high, of)}" if run.paired else ""
    return Value(change.value, difference(change.value, of), ends, 0)


def _place(key: Key) -> tuple:
    metric, probe = rank_of_metric(key.metric), rank_of_probe(key.probe)
    return key.attack != "none", key.attack, metric, key.metric, probe, key.probe


def _labels(views: Sequence[RunView]) -> list[str]:
    """The shortest labels that distinguish the runs of one concept: the method, else with its seed and judge, else with the run id.

    Of seed and judge only what differs is named; where one of them is enough, the seed is.
    """
    short = [f"{v.card.method or v.card.id}{_beside(v)}" for v in views]
    seeds = ["" if v.card.seed is None else f", seed {v.card.seed}" for v in views]
    judges = [f", judge {v.evaluation.judge}" if v.evaluation and v.evaluation.judge else "" for v in views]
    ids = [f", {v.card.id}" for v in views]
    candidates = [
        [f"{name}{''.join(parts)}" for name, *parts in zip(short, *more, strict=True)]
        for more in ((), (seeds,), (judges,), (seeds, judges), (ids,))
    ]
    counts = [Counter((name, v.card.target) for name, v in zip(names, views, strict=True)) for names in candidates]

    def label(at: int, view: RunView) -> str:
        distinct = (names[at] for names, count in zip(candidates, counts, strict=True) if count[names[at], view.card.target] == 1)
        return next(distinct, f"{candidates[-1][at]}")

    return [label(at, view) for at, view in enumerate(views)]


def _beside(view: RunView) -> str:
    others, way = view.beside, " in sequence" if len(view.card.stages) > 1 + len(view.card.before) else ""
    return f", with {others[0] if len(others) == 1 else f'{len(others)} others'}{way}" if others else ""


def _run_cell(rows: RowsByKey, seconds: RowsByKey, bases: RowsByKey, key: Key) -> RunCell:
    row, second = rows.get(key), seconds.get(key)
    return RunCell(value_of(row), value_of(second), compare_rows(bases.get(key), row), bool(row and second and is_apart(row, second)))
