"""Charts of a benchmark: forgetting against retention, and what each method costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from expunge.reports.charts.figures import BASE, INK, PAPER, RUNS, STYLE, marker_of, svg


@dataclass(frozen=True)
class Spot:
    """A method in the plane: how much it forgets and how much it keeps, each with an interval."""

    label: str
    colour: int | None
    """None for a landmark: the untouched or the retrained model."""
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


def plane(spots: Sequence[Spot]) -> Markup | None:
    """Forgetting upwards, retention to the right: the best corner is at the top right. A line joins what nothing else beats.
    Landmarks are named in the drawing, methods in the legend that the page has.

    None without spots.
    """
    if not spots:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.4))
        axis = figure.subplots()
        edge = sorted((s for s in spots if s.colour is not None and not _beaten(s, spots)), key=lambda s: s.retention[0])
        if len(edge) > 1:
            axis.plot([100 * s.retention[0] for s in edge], [100 * s.forgetting[0] for s in edge], color=BASE, linewidth=1, dashes=(4, 3))
        for spot in spots:
            _draw(axis, spot)
        ends = [100 * x for s in spots for x in s.retention if math.isfinite(x)]
        axis.set_xlim(min(80.0, min(ends) - 3), max(ends) + 3)
        axis.set_ylim(-4, 104)
        axis.set_xlabel("retention: the worst of IRA, CRA, NRA, ORA, relative to the untouched model")
        axis.set_ylabel("forgetting: UA")
        axis.tick_params(axis="y", colors=INK)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} %"))
        axis.grid()
        axis.set_axisbelow(True)
        figure.subplots_adjust(left=0.12, right=0.97, top=0.97, bottom=0.13)
        return svg(figure, "Forgetting against retention")


def _draw(axis: Axes, spot: Spot) -> None:
    colour = BASE if spot.colour is None else RUNS[spot.colour % len(RUNS)]
    (y, bottom, top), (x, left, right) = ([100 * v for v in ends] for ends in (spot.forgetting, spot.retention))
    for xs, ys in (([left, right], [y, y]), ([x, x], [bottom, top])):
        axis.plot(xs, ys, color=colour, linewidth=1.4, alpha=0.6, solid_capstyle="round", zorder=2)
    marker, size = ("*", 12) if spot.colour is None else (marker_of(spot.colour), 7)
    axis.plot(x, y, marker, color=colour, markerfacecolor=PAPER if spot.colour is None else colour, markersize=size, zorder=3)
    if spot.colour is None:  # methods crowd in the best corner, where names would cover each other: the legend has them
        place, end = ((-8, 8), "bottom") if y < 60 else ((-8, -8), "top")
        axis.annotate(spot.label, (x, y), place, textcoords="offset points", ha="right", va=end, color=INK)


def _beaten(spot: Spot, spots: Sequence[Spot]) -> bool:
    here = spot.forgetting[0], spot.retention[0]
    others = [(s.forgetting[0], s.retention[0]) for s in spots if s.colour is not None]
    return any(f >= here[0] and r >= here[1] and (f, r) != here for f, r in others)


CUT = 3.0
"""A bar that many times as long as the next would leave no room to tell the others apart."""


def _longest(values: Sequence[float]) -> float:
    """Where bars end."""
    *_, next_, greatest = sorted((0.0, 0.0, *values))
    return 1.25 * next_ if next_ and greatest > CUT * next_ else greatest or 1.0


def bars(title: str, found: Sequence[Bar]) -> Markup:
    """A bar for each method, the number at its end. One that is far longer than all others is cut, which a gap near its end shows."""
    height = 0.27 * len(found) + 0.45
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5, height))
        axis = figure.subplots()
        longest = _longest([b.value for b in found])
        for at, bar in enumerate(found):
            end = min(bar.value, longest)
            pieces = [(0.0, end)] if bar.value <= longest else [(0.0, 0.92 * longest), (0.94 * longest, 0.06 * longest)]
            axis.broken_barh(pieces, (at - 0.3, 0.6), color=RUNS[bar.colour % len(RUNS)])
            axis.text(end + 0.015 * longest, at, bar.text, va="center", ha="left", color=INK)
        axis.set_yticks(range(len(found)), [b.label if len(b.label) <= 24 else f"{b.label[:23]}…" for b in found])
        axis.set_ylim(len(found) - 0.4, -0.6)
        axis.set_xlim(0, 1.3 * longest)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_visible(False)
        axis.spines["bottom"].set_visible(False)
        axis.set_title(title, loc="left", fontsize=9)
        figure.subplots_adjust(left=0.4, right=0.99, top=1 - 0.32 / height, bottom=0.08 / height)
        return svg(figure, title)
