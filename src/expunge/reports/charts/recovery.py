"""The chart of an attack: how often the judge sees the concept, over the attack's strength."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from expunge.evaluation.statistics import Interval
from expunge.reports.charts.style import CHART_WIDTH, PAPER, SOFT, STYLE, colour_of, marker_of, percent, svg

LABEL_GAP = 0.07
"""Tick labels closer than this part of the axis would overlap; of two the one at the greater strength is written."""


@dataclass(frozen=True)
class RecoveryLine:
    """One model under the attack."""

    colour: int | None
    """None for the base model."""
    points: Sequence[tuple[float, Interval]]
    """Strength and attack success rate."""
    faint: bool = False
    """Thin and without intervals: the attack with other settings."""


def recovery_chart(lines: Sequence[RecoveryLine], unit: str, chance: float, title: str) -> Markup | None:
    """Shares from 0 to 100 % with their intervals; strength on an axis of log(1 + strength). None if there is only one strength."""
    strengths = sorted({strength for line in lines for strength, _ in line.points})
    if len(strengths) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, 2.6))
        axis = figure.subplots()
        axis.axhline(100 * chance, color=SOFT, linewidth=0.9, dashes=(1, 2.5))
        for line in lines:
            colour = colour_of(line.colour)
            at = [math.log1p(strength) for strength, _ in line.points]
            heights = [100 * rate.value for _, rate in line.points]
            if line.faint:
                axis.plot(at, heights, color=colour, linewidth=0.9, alpha=0.5, zorder=2)
                continue
            low, high = ([100 * getattr(rate, end) for _, rate in line.points] for end in ("low", "high"))
            axis.fill_between(at, low, high, color=colour, alpha=0.14, linewidth=0, zorder=1)
            marker, fill = ("o", PAPER) if line.colour is None else (marker_of(line.colour), colour)
            axis.plot(at, heights, color=colour, linewidth=1.8, marker=marker, markerfacecolor=fill, markersize=5, zorder=3)
        shown = _labelled([math.log1p(s) for s in strengths])
        axis.set_xticks([math.log1p(strengths[i]) for i in shown], [f"{strengths[i]:g}" for i in shown])
        axis.set_xlabel(unit)
        axis.set_ylim(-3, 103)
        axis.yaxis.set_major_formatter(FuncFormatter(percent))
        axis.tick_params(axis="y", colors=SOFT)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.margins(x=0.03)
        figure.subplots_adjust(left=0.13, right=0.97, top=0.96, bottom=0.19)
        return svg(figure, title)


def _labelled(at: Sequence[float]) -> list[int]:
    """The rising positions whose tick labels do not overlap: the first, the last, and of two close ones the greater.

    >>> _labelled([0.0, 2.2, 2.5, 2.6])
    [0, 1, 3]
    """
    least, kept = LABEL_GAP * (at[-1] - at[0]), [len(at) - 1]
    for i in range(len(at) - 2, -1, -1):
        if at[kept[-1]] - at[i] >= least:
            kept.append(i)
    return kept[::-1]
