"""The chart of the training loss."""

import math
from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from expunge.reports.charts.style import CHART_WIDTH, SOFT, STYLE, colour_of, svg
from expunge.training.steps import Step


def loss_chart(steps: Sequence[Step], colour: int) -> Markup | None:
    """The loss of every step, pale, and its running mean; if the loss has several terms, the running mean of each.

    None without two finite losses. The axis is logarithmic if the running mean spans more than a factor of 20.
    """
    finite = [s for s in steps if math.isfinite(s.loss)]
    if len(finite) < 2:
        return None
    at = [s.step for s in finite]
    smooth = running_mean([s.loss for s in finite], window_of(len(finite)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, 2.5))
        axis = figure.subplots()
        line = colour_of(colour)
        raw_at, raw = thin(at, [s.loss for s in finite])
        axis.plot(raw_at, raw, color=line, linewidth=0.8, alpha=0.35)
        names = list(dict.fromkeys(name for s in finite for name in s.terms))
        if len(names) > 1:
            for name, dashes in zip(names, ((4, 2), (1, 1.5), (6, 2, 1, 2), (2, 1)), strict=False):
                found = [(s.step, s.terms[name]) for s in finite if math.isfinite(s.terms.get(name, math.nan))]
                term = running_mean([v for _, v in found], window_of(len(found)))
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


def window_of(steps: int) -> int:
    """The window of the running mean: a twenty-fifth of the run."""
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
    """A long curve as at most `points` points that keep every peak: the least and the greatest value of each stretch."""
    if len(values) <= points:
        return list(at), list(values)
    stretch = math.ceil(2 * len(values) / points)
    kept = [
        i
        for start in range(0, len(values), stretch)
        for i in sorted({f(range(start, min(start + stretch, len(values))), key=values.__getitem__) for f in (min, max)})
    ]
    return [at[i] for i in kept], [values[i] for i in kept]
