"""Charts, drawn by matplotlib as SVG to stand inside the page, where the page's style sheet gives them their colours.

Colours are written as placeholders that become CSS variables, so one drawing serves light, dark and paper.
"""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from expunge.reports.run_folder import Row, Step
from expunge.reports.tables import Group, Key
from expunge.reports.words import meaning

INK, SOFT, LINE, BASE, PAPER = "#010101", "#020202", "#030303", "#040404", "#0b0b0b"
RUNS = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
MARKERS = ("o", "s", "^", "D", "v", "P")
SYMBOLS = ("●", "■", "▲", "◆", "▼", "✚")
"""The same shapes for the legend, which is text of the page."""
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", BASE: "base", PAPER: "paper", **{c: f"run{i}" for i, c in enumerate(RUNS)}}

_WIDTH = 4.5
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "expunge", "text.parse_math": False, "text.usetex": False, "axes.unicode_minus": True,
    "font.size": 8.5, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": LINE, "axes.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": SOFT, "ytick.color": INK, "xtick.major.size": 3, "ytick.major.size": 0, "grid.color": LINE, "grid.linewidth": 0.6,
}  # fmt: skip


def marker_of(colour: int) -> str:
    """Colours repeat after six, and then with other shapes: 36 runs are told apart."""
    return MARKERS[(colour + colour // len(RUNS)) % len(MARKERS)]


def forests(group: Group) -> list[Markup]:
    """Each metric's value and interval, for the untouched model (hollow) and each run: a chart of shares and a chart of the rest.

    Shares stand on one axis from 0 to 100 %; every other metric has an axis of its own, or a large one would flatten the rest.
    Base rows that differ between runs are all drawn.
    """
    keys = [k for k in group.keys if any(_lanes(group, k))]
    shares, others = [k for k in keys if meaning(k.metric).share], [k for k in keys if not meaning(k.metric).share]
    drawn = [_forest(group, [shares], f"Shares of pictures with intervals, {group.title}")] if shares else []
    return drawn + ([_forest(group, [[k] for k in others], f"Other metrics with intervals, {group.title}")] if others else [])


def _forest(group: Group, panels: list[list[Key]], title: str) -> Markup:
    heights = [len(p) * (0.15 * (len(group.columns) + 1) + 0.16) for p in panels]
    total = sum(heights) + 0.42 * len(panels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, total))
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, group, panel)
        gap = 0.42 * len(panels) / sum(heights)
        figure.subplots_adjust(left=0.3, right=0.97, top=1 - 0.06 / total, bottom=0.3 / total, hspace=gap)
        return svg(figure, title)


def _lanes(group: Group, key: Key) -> list[list[Row]]:
    """What is drawn for one metric, from top to bottom: the base's rows, then each run's."""
    base = dict.fromkeys(c.compared.base[key] for c in group.columns if key in c.compared.base)
    lanes = [list(base), *([c.compared.run[key]] if key in c.compared.run else [] for c in group.columns)]
    return [[row for row in lane if math.isfinite(row.value)] for lane in lanes]


def _panel(axis: Axes, group: Group, keys: Sequence[Key]) -> None:
    share = meaning(keys[0].metric).share
    scale = 100 if share else 1
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
    if share:
        axis.set_xlim(-2, 102)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} %"))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.margins(x=0.08)


def _label(key: Key, group: Group) -> str:
    """The metric, with as much of its probe and attack as tells it from the others, cut to the margin's width."""
    probes = {k.probe for k in group.keys if k.metric == key.metric}
    words = [
        key.metric,
        key.probe if len(probes) > 1 else "",
        f"after {key.attack}" if key.attack != "none" else "",
        meaning(key.metric).arrow,
    ]
    label = " ".join(w for w in words if w)
    return label if len(label) <= 24 else f"{label[:23]}…"


def loss(steps: Sequence[Step], colour: int) -> Markup | None:
    """The loss at every step, pale, and its running mean; each term's running mean where there are several. None without finite losses.

    The axis is logarithmic where the running mean spans more than a factor of 20.
    """
    finite = [s for s in steps if math.isfinite(s.loss)]
    if len(finite) < 2:
        return None
    at, window = [s.step for s in finite], smoothing(len(finite))
    smooth = running_mean([s.loss for s in finite], window)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.5))
        axis = figure.subplots()
        line = RUNS[colour % len(RUNS)]
        raw_at, raw = thin(at, [s.loss for s in finite])
        axis.plot(raw_at, raw, color=line, linewidth=0.8, alpha=0.35)
        names = list(dict.fromkeys(name for s in finite for name in s.terms))
        if len(names) > 1:
            for name, dashes in zip(names, ((4, 2), (1, 1.5), (6, 2, 1, 2), (2, 1)), strict=False):
                found = [(s.step, s.terms[name]) for s in finite if math.isfinite(s.terms.get(name, math.nan))]
                term = running_mean([v for _, v in found], smoothing(len(found)))
                axis.plot([a for a, _ in found], term, color=SOFT, linewidth=1.1, dashes=dashes, label=name)
            axis.legend(frameon=False, fontsize=8, handlelength=2.6)
        axis.plot(at, smooth, color=line, linewidth=2)
        if min(min(smooth), min(raw)) > 0 and max(smooth) > 20 * min(smooth):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axis.yaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("step")
        axis.tick_params(axis="y", colors=SOFT)
        axis.grid(axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.margins(x=0.01)
        figure.subplots_adjust(left=0.13, right=0.97, top=0.96, bottom=0.19)
        return svg(figure, f"Training loss over {len(finite)} steps")


def smoothing(steps: int) -> int:
    """The running mean's window: a twenty-fifth of the run."""
    return max(1, steps // 25)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and its neighbours within half a window on either side.

    >>> running_mean([0.0, 3.0, 6.0], 3)
    [1.5, 3.0, 4.5]
    """
    half = window // 2
    means = []
    for i in range(len(values)):
        near = values[max(0, i - half) : i + half + 1]
        means.append(sum(near) / len(near))
    return means


def thin(at: Sequence[int], values: Sequence[float], points: int = 400) -> tuple[list[float], list[float]]:
    """A long curve as few points that still touch every peak: the least and the greatest value of each stretch."""
    if len(values) <= points:
        return list(at), list(values)
    stretch = math.ceil(2 * len(values) / points)
    kept = [
        i
        for start in range(0, len(values), stretch)
        for i in sorted({f(range(start, min(start + stretch, len(values))), key=values.__getitem__) for f in (min, max)})
    ]
    return [at[i] for i in kept], [values[i] for i in kept]


def svg(figure: Figure, title: str) -> Markup:
    """A drawing as it stands in a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        lambda m: f'<svg class="chart" role="img" viewBox="{m[1]}"><title>{Markup.escape(title)}</title>',
        text,
    )
    for placeholder, name in _VARIABLES.items():
        text = text.replace(placeholder, f"var(--{name})")
    return Markup(text)
