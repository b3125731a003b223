"""The chart of an attack: how often the concept is seen, over the attack's strength."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from expunge.evaluation.statistics import Interval
from expunge.reports.charts.figures import BASE, PAPER, RUNS, SOFT, STYLE, marker_of, svg

NEAR = 0.07
"""Labels that are closer than this part of the axis would overlap; of two the stronger is written."""


@dataclass(frozen=True)
class Line:
    """One model under the attack."""

    colour: int | None
    """None: the untouched model."""
    points: Sequence[tuple[float, Interval]]
    faint: bool = False
    """Of other settings than the attacker's best: without intervals."""


def curves(lines: Sequence[Line], unit: str, chance: float, title: str) -> Markup | None:
    """Shares from 0 to 100 % with their intervals, strength on an axis of log(1 + strength). None where there is nothing but a point."""
    strengths = sorted({strength for line in lines for strength, _ in line.points})
    if len(strengths) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 2.6))
        axis = figure.subplots()
        axis.axhline(100 * chance, color=SOFT, linewidth=0.9, dashes=(1, 2.5))
        for line in lines:
            colour = BASE if line.colour is None else RUNS[line.colour % len(RUNS)]
            at = [math.log1p(strength) for strength, _ in line.points]
            heights = [100 * rate.value for _, rate in line.points]
            if line.faint:
                axis.plot(at, heights, color=colour, linewidth=0.9, alpha=0.5, zorder=2)
                continue
            low, high = ([100 * getattr(rate, end) for _, rate in line.points] for end in ("low", "high"))
            axis.fill_between(at, low, high, color=colour, alpha=0.14, linewidth=0, zorder=1)
            marker, fill = ("o", PAPER) if line.colour is None else (marker_of(line.colour), colour)
            axis.plot(at, heights, color=colour, linewidth=1.8, marker=marker, markerfacecolor=fill, markersize=5, zorder=3)
        shown = _apart([math.log1p(s) for s in strengths])
        axis.set_xticks([math.log1p(strengths[i]) for i in shown], [f"{strengths[i]:g}" for i in shown])
        axis.set_xlabel(unit)
        axis.set_ylim(-3, 103)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
        axis.tick_params(axis="y", colors=SOFT)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.margins(x=0.03)
        figure.subplots_adjust(left=0.13, right=0.97, top=0.96, bottom=0.19)
        return svg(figure, title)


def _apart(at: Sequence[float]) -> list[int]:
    """Those of the rising places whose labels do not overlap: the first and the last, and between them the stronger of two.

    >>> _apart([0.0, 2.2, 2.5, 2.6])
    [0, 1, 3]
    """
    least, kept = NEAR * (at[-1] - at[0]), [len(at) - 1]
    for i in range(len(at) - 2, -1, -1):
        if at[kept[-1]] - at[i] >= least:
            kept.append(i)
    return kept[::-1]
