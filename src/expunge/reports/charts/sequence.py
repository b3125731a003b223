"""Runs that were made in stages: what became of each concept from stage to stage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from expunge.evaluation.results import Row
from expunge.reports.charts.style import CHART_WIDTH, STYLE, colour_of, marker_of, percent, svg
from expunge.reports.run_view import RunView
from expunge.reports.tables import BASE_RUN, Value, value_of

FEW = 4
"""Stages whose names fit beside each other under a chart."""


@dataclass(frozen=True)
class ConceptLine:
    """The UA of one concept after each stage."""

    target: str
    colour: int
    base: Value | None
    values: tuple[Value | None, ...]
    """One for each stage; None before the concept's own."""


@dataclass(frozen=True)
class Course:
    """A run that was made in stages."""

    title: str
    stages: tuple[str, ...]
    """What each stage does: its concept or its method."""
    lines: tuple[ConceptLine, ...]
    chart: Markup


def course_of(view: RunView, title: str = "") -> Course | None:
    """UA of every concept removed so far, after each stage: a concept whose UA falls again has come back. None for any other run."""
    if not view.card.stages or view.evaluation is None:
        return None
    ids, names = [stage.id for stage in view.card.stages], tuple(stage.of for stage in view.card.stages)
    targets = [t.target for t in view.card.targets] or [view.card.target or ""]
    rows = [r for r in view.evaluation.rows if r.metric == "UA" and r.attack == "none"]
    judge = next((r.judge for r in rows if r.run in ids), "")
    found = {(r.run, r.concept): r for r in rows if r.judge == judge and (r.run in ids or r.run == BASE_RUN)}
    at = [[found.get((stage, target)) for stage in ids] for target in targets]
    if not any(row for rows in at for row in rows):
        return None
    lines = tuple(ConceptLine(t, i, value_of(found.get((BASE_RUN, t))), tuple(map(value_of, at[i]))) for i, t in enumerate(targets))
    title = f"{title or view.card.method or view.card.id}: {view.card.target}"
    return Course(title, names, lines, _chart(names, at, title))


def _chart(stages: Sequence[str], at: Sequence[Sequence[Row | None]], title: str) -> Markup:
    """A line for each concept, from the stage that removed it."""
    with matplotlib.rc_context(STYLE):
        is_crowded = len(stages) > FEW
        figure = Figure(figsize=(CHART_WIDTH, 3.1 if is_crowded else 2.6))
        axis = figure.subplots()
        for number, rows in enumerate(at):
            colour = colour_of(number)
            shown = [(x, r) for x, r in enumerate(rows) if r and math.isfinite(r.value)]
            for x, row in shown:
                if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
                    axis.plot([x, x], [100 * row.ci_low, 100 * row.ci_high], color=colour, linewidth=1.2, alpha=0.6)
            points = [x for x, _ in shown], [100 * r.value for _, r in shown]
            axis.plot(*points, color=colour, marker=marker_of(number), markersize=4.6, linewidth=1.6)
        slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        axis.set_xticks(range(len(stages)), [f"{n}. {name}" for n, name in enumerate(stages, 1)], **slanted)
        axis.set_xlim(-0.3, len(stages) - 0.7)
        axis.set_ylim(-2, 102)
        axis.yaxis.set_major_formatter(FuncFormatter(percent))
        axis.grid(axis="y")
        axis.set_xlabel("after the stage of")
        figure.subplots_adjust(left=0.13, right=0.97, top=0.96, bottom=0.36 if is_crowded else 0.22)
        return svg(figure, f"UA of each concept after each stage, {title}")
