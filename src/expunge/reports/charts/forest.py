"""Forest plots: each metric's value with its interval, for the base model and each run."""

import math
from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from expunge.evaluation.results import Row
from expunge.reports.charts.style import BASE, CHART_WIDTH, LINE, PAPER, RUNS, STYLE, abbreviate, marker_of, percent, svg
from expunge.reports.glossary import arrow_of, is_fraction
from expunge.reports.tables import Group, Key

LONGEST = 24
"""Characters of a metric's label that the margin has room for."""


def forests(group: Group) -> list[Markup]:
    """A chart of the metrics that are shares and a chart of the others, each with the base model (hollow) and every run.

    Shares have one axis from 0 to 100 %. Every other metric has an axis of its own, because scales differ. Rows of the base model that
    differ between runs are all shown.
    """
    keys = [k for k in group.keys if any(_lanes(group, k))]
    shares, others = [k for k in keys if is_fraction(k.metric)], [k for k in keys if not is_fraction(k.metric)]
    charts = [_forest(group, [shares], f"Shares of images with intervals, {group.title}")] if shares else []
    return charts + ([_forest(group, [[k] for k in others], f"Other metrics with intervals, {group.title}")] if others else [])


def _forest(group: Group, panels: list[list[Key]], title: str) -> Markup:
    heights = [len(p) * (0.15 * (len(group.columns) + 1) + 0.16) for p in panels]
    total = sum(heights) + 0.42 * len(panels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, total))
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, group, panel)
        gap = 0.42 * len(panels) / sum(heights)
        figure.subplots_adjust(left=0.3, right=0.97, top=1 - 0.06 / total, bottom=0.3 / total, hspace=gap)
        return svg(figure, title)


def _lanes(group: Group, key: Key) -> list[list[Row]]:
    """The rows of one metric from top to bottom: the base model's, then each run's."""
    base = dict.fromkeys(c.compared.base[key] for c in group.columns if key in c.compared.base)
    lanes = [list(base), *([c.compared.run[key]] if key in c.compared.run else [] for c in group.columns)]
    return [[row for row in lane if math.isfinite(row.value)] for lane in lanes]


def _panel(axis: Axes, group: Group, keys: Sequence[Key]) -> None:
    are_shares = is_fraction(keys[0].metric)
    scale = 100 if are_shares else 1
    for at, key in enumerate(keys):
        lanes = _lanes(group, key)
        for lane, rows in enumerate(lanes):
            colour = BASE if lane == 0 else RUNS[(lane - 1) % len(RUNS)]
            marker = "o" if lane == 0 else marker_of(lane - 1)
            fill = PAPER if lane == 0 else colour
            y = at + (lane - (len(lanes) - 1) / 2) * 0.62 / len(lanes)
            for row in rows:
                if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
                    ends = [scale * row.ci_low, scale * row.ci_high]
                    axis.plot(ends, [y, y], color=colour, linewidth=1.6, solid_capstyle="round", zorder=2)
                axis.plot(scale * row.value, y, marker, color=colour, markerfacecolor=fill, markersize=4.6, markeredgewidth=1.3, zorder=3)
        if at % 2:
            axis.axhspan(at - 0.5, at + 0.5, color=LINE, alpha=0.35, linewidth=0, zorder=0)
    axis.set_yticks(range(len(keys)), [_label(k, group) for k in keys])
    axis.set_ylim(len(keys) - 0.5, -0.5)
    axis.grid(axis="x", zorder=0)
    axis.set_axisbelow(True)
    if are_shares:
        axis.set_xlim(-2, 102)
        axis.xaxis.set_major_formatter(FuncFormatter(percent))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.margins(x=0.08)


def _label(key: Key, group: Group) -> str:
    """The metric, with its probe and attack if they are needed to distinguish it."""
    probes = {k.probe for k in group.keys if k.metric == key.metric}
    words = [
        key.metric,
        key.probe if len(probes) > 1 else "",
        f"after {key.attack}" if key.attack != "none" else "",
        arrow_of(key.metric),
    ]
    return abbreviate(" ".join(w for w in words if w), LONGEST)
