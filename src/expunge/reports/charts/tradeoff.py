"""Charts of a benchmark: forgetting against retention, and the costs of each method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from expunge.reports.charts.style import BASE, CHART_WIDTH, INK, PAPER, STYLE, abbreviate, colour_of, marker_of, percent, svg


@dataclass(frozen=True)
class Spot:
    """A method: how much it forgets and how much it keeps."""

    label: str
    colour: int | None
    """None for a reference: the base model or the retrained model."""
    forgetting: tuple[float, float, float]
    """Value, low and high, as shares."""
    retention: tuple[float, float, float]


@dataclass(frozen=True)
class Bar:
    """One method's cost."""

    label: str
    colour: int
    value: float
    text: str


def tradeoff_chart(spots: Sequence[Spot]) -> Markup | None:
    """Forgetting upwards, retention to the right: the best corner is at the top right. None without spots.

    A dashed line joins the methods that no other method beats in both. References have their names in the chart; methods, which crowd
    in the best corner, have theirs in the page's legend.
    """
    if not spots:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, 3.8))
        axis = figure.subplots()
        edge = sorted((s for s in spots if s.colour is not None and not _is_beaten(s, spots)), key=lambda s: s.retention[0])
        if len(edge) > 1:
            axis.plot([100 * s.retention[0] for s in edge], [100 * s.forgetting[0] for s in edge], color=BASE, linewidth=1, dashes=(4, 3))
        for spot in spots:
            _plot(axis, spot)
        ends = [100 * x for s in spots for x in s.retention if math.isfinite(x)]
        axis.set_xlim(min(80.0, min(ends) - 3), max(ends) + 3)
        axis.set_ylim(-4, 113)
        axis.set_yticks(range(0, 101, 20))
        axis.set_xlabel("retention: the lowest of IRA, CRA, NRA and ORA,\nrelative to the base model")
        axis.set_ylabel("forgetting: UA")
        axis.tick_params(axis="y", colors=INK)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(FuncFormatter(percent))
        axis.grid()
        axis.set_axisbelow(True)
        figure.subplots_adjust(left=0.15, right=0.97, top=0.97, bottom=0.17)
        return svg(figure, "Forgetting against retention")


def _plot(axis: Axes, spot: Spot) -> None:
    colour = colour_of(spot.colour)
    (y, bottom, top), (x, left, right) = ([100 * v for v in ends] for ends in (spot.forgetting, spot.retention))
    for xs, ys in (([left, right], [y, y]), ([x, x], [bottom, top])):
        axis.plot(xs, ys, color=colour, linewidth=1.4, alpha=0.6, solid_capstyle="round", zorder=2)
    marker, size = ("*", 12) if spot.colour is None else (marker_of(spot.colour), 7)
    axis.plot(x, y, marker, color=colour, markerfacecolor=PAPER if spot.colour is None else colour, markersize=size, zorder=3)
    if spot.colour is None:
        axis.annotate(spot.label, (x, y), (6, 8), textcoords="offset points", ha="right", va="bottom", color=INK)  # above the crowd


def _is_beaten(spot: Spot, spots: Sequence[Spot]) -> bool:
    here = spot.forgetting[0], spot.retention[0]
    others = [(s.forgetting[0], s.retention[0]) for s in spots if s.colour is not None]
    return any(f >= here[0] and r >= here[1] and (f, r) != here for f, r in others)


FAR = 10.0
"""Bars whose longest is more than this many times their median are drawn on a logarithmic axis, which the title says."""


def is_far_apart(values: Sequence[float]) -> bool:
    """Whether bars need a logarithmic axis."""
    positive = [v for v in values if v > 0]
    return bool(positive) and max(positive) > FAR * median(positive)


def cost_chart(title: str, costs: Sequence[Bar]) -> Markup:
    """A bar for each method, with its number at the end, to scale, or on a logarithmic axis where the longest would hide the others."""
    height = 0.27 * len(costs) + 0.45
    values = [bar.value for bar in costs]
    positive, is_log = [v for v in values if v > 0], is_far_apart(values)
    start = 10 ** (math.floor(math.log10(min(positive)) - 0.3)) if is_log else 0.0
    longest = max(positive, default=1.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, height))
        axis = figure.subplots()
        if is_log:
            axis.set_xscale("log")
        axis.barh(range(len(costs)), [max(v - start, 0.0) for v in values], 0.6, left=start, color=[colour_of(b.colour) for b in costs])
        for at, bar in enumerate(costs):
            place = axis.annotate(bar.text, (max(bar.value, start), at), (3, 0), textcoords="offset points", va="center", ha="left")
            place.set_color(INK)
        axis.set_yticks(range(len(costs)), [abbreviate(b.label, 24) for b in costs])
        axis.set_ylim(len(costs) - 0.4, -0.6)
        axis.set_xlim(start, start * (longest / start) ** 1.3 if is_log else 1.3 * longest)
        axis.xaxis.set_visible(False)
        axis.spines["bottom"].set_visible(False)
        axis.set_title(f"{title} (logarithmic axis)" if is_log else title, loc="left", fontsize=9)
        figure.subplots_adjust(left=0.4, right=0.99, top=1 - 0.32 / height, bottom=0.08 / height)
        return svg(figure, title)
