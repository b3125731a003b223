"""Runs of several concepts: each concept as a run of its own, and what became of all of them from stage to stage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from expunge.reports.charts.figures import MARKERS, RUNS, STYLE, svg
from expunge.reports.run_folder import BASE, Row, Run
from expunge.reports.tables import Cell, cell

FEW = 4
"""Stages whose names have room beside each other under a chart."""


def split(run: Run) -> list[Run]:
    """A run of several concepts as one for each, which holds its rows and pictures; any other as it is.

    What was measured of the run as a whole, such as the change of weights, goes with each.
    """
    if not run.card.targets:
        return [run]
    return [_part(run, number) for number in range(len(run.card.targets))]


def _part(run: Run, number: int) -> Run:
    entry, evaluation = run.card.targets[number], run.evaluation
    others = tuple(t.target for at, t in enumerate(run.card.targets) if at != number)
    card = replace(run.card, target=entry.target, kind=entry.kind, synonyms=entry.synonyms, anchor=entry.anchor, beside=others)
    if evaluation:
        stages = {stage for stage, _ in run.card.stages}
        rows = tuple(r for r in evaluation.rows if r.run not in stages and r.concept in (entry.target, run.card.target, ""))
        pictures = tuple(p for p in evaluation.pictures if p.concept in (entry.target, ""))
        evaluation = replace(evaluation, rows=rows, pictures=pictures)
    return replace(run, card=card, evaluation=evaluation, part=number)


@dataclass(frozen=True)
class Line:
    """One concept: how gone it was after each stage."""

    target: str
    colour: int
    base: Cell | None
    cells: tuple[Cell | None, ...]
    """For each stage; None before its own."""


@dataclass(frozen=True)
class Course:
    """How a run that was made in stages went."""

    title: str
    stages: tuple[str, ...]
    """The concept of each, or its method."""
    lines: tuple[Line, ...]
    chart: Markup


def course(run: Run, title: str = "") -> Course | None:
    """UA of every concept removed so far, after each stage: where it falls again, the concept has come back. None of any other run."""
    if not run.card.stages or run.evaluation is None:
        return None
    stages, names = [stage for stage, _ in run.card.stages], tuple(name for _, name in run.card.stages)
    targets = [t.target for t in run.card.targets] or [run.card.target or ""]
    rows = [r for r in run.evaluation.rows if r.metric == "UA" and r.attack == "none"]
    judge = next((r.judge for r in rows if r.run in stages), "")
    found = {(r.run, r.concept): r for r in rows if r.judge == judge and (r.run in stages or r.run == BASE)}
    at = [[found.get((stage, target)) for stage in stages] for target in targets]
    if not any(row for rows in at for row in rows):
        return None
    lines = tuple(Line(t, i, cell(found.get((BASE, t))), tuple(map(cell, at[i]))) for i, t in enumerate(targets))
    title = f"{title or run.card.method or run.card.id}: {run.card.target}"
    return Course(title, names, lines, _chart(names, at, title))


def _chart(stages: Sequence[str], at: Sequence[Sequence[Row | None]], title: str) -> Markup:
    """A line for each concept, from the stage that removed it on."""
    with matplotlib.rc_context(STYLE):
        crowded = len(stages) > FEW
        figure = Figure(figsize=(4.5, 3.1 if crowded else 2.6))
        axis = figure.subplots()
        for number, rows in enumerate(at):
            colour, marker = RUNS[number % len(RUNS)], MARKERS[(number + number // len(RUNS)) % len(MARKERS)]
            shown = [(x, r) for x, r in enumerate(rows) if r and math.isfinite(r.value)]
            for x, row in shown:
                if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
                    axis.plot([x, x], [100 * row.ci_low, 100 * row.ci_high], color=colour, linewidth=1.2, alpha=0.6)
            axis.plot([x for x, _ in shown], [100 * r.value for _, r in shown], color=colour, marker=marker, markersize=4.6, linewidth=1.6)
        slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        axis.set_xticks(range(len(stages)), [f"{n}. {name}" for n, name in enumerate(stages, 1)], **slanted)
        axis.set_xlim(-0.3, len(stages) - 0.7)
        axis.set_ylim(-2, 102)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
        axis.grid(axis="y")
        axis.set_xlabel("after the stage of")
        figure.subplots_adjust(left=0.13, right=0.97, top=0.96, bottom=0.36 if crowded else 0.22)
        return svg(figure, f"UA of each concept after each stage, {title}")
