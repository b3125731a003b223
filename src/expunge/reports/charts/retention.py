"""The retention map: how much information of each concept is kept, with families down and their members across."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from expunge.reports.charts.style import CHART_WIDTH, INK, LINE, RUNS, SOFT, STYLE, abbreviate, svg
from expunge.reports.format import DASH

ACROSS = 4
"""Tiles in a row; a larger family continues in the next row."""
STRONGEST = 0.62
"""The opacity of a tile whose concept is kept in full. Its text is in the page's ink."""
_HEIGHT, _GAP, _LEFT = 0.46, 0.06, 0.17


@dataclass(frozen=True)
class Tile:
    """One concept."""

    family: str
    """Empty if it has none."""
    name: str
    is_removed: bool
    ratio: tuple[float, float, float] | None
    """Information of the unlearned model over the base model's, and its interval. None if the base model has none to speak of."""


def retention_chart(kind: str, tiles: Sequence[Tile]) -> Markup:
    """A tile for each concept of a kind: a fuller colour means that more is kept, another colour a ratio below 0.

    A frame marks the concepts that the run should remove.
    """
    lines: list[tuple[str, list[Tile]]] = []
    for family in dict.fromkeys(t.family for t in tiles):
        members = [t for t in tiles if t.family == family]
        for start in range(0, len(members), ACROSS):
            lines.append((family if start == 0 else "", members[start : start + ACROSS]))
    height = _HEIGHT * len(lines) + 0.04
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(CHART_WIDTH, height))
        axis = figure.add_axes((0.005, 0.0, 0.99, 1.0))
        width = (1 - _LEFT) / ACROSS
        for at, (family, members) in enumerate(lines):
            axis.text(0, at + 0.5, abbreviate(family, 13), va="center", ha="left", color=SOFT, fontsize=8)
            for place, tile in enumerate(members):
                _plot(axis, tile, _LEFT + place * width, at, width)
        axis.set_xlim(0, 1.002)
        axis.set_ylim(len(lines) + 0.02, -0.02)
        axis.axis("off")
        return svg(figure, f"Information kept of each {kind}")


def _plot(axis: Axes, tile: Tile, left: float, top: float, width: float) -> None:
    value = tile.ratio[0] if tile.ratio and math.isfinite(tile.ratio[0]) else None
    inset = _GAP / 2
    box = (left + inset * width / 2, top + inset), width * (1 - inset), 1 - 2 * inset
    if value is not None:
        colour, share = (RUNS[0], value) if value >= 0 else (RUNS[1], -value)
        axis.add_patch(Rectangle(*box, facecolor=colour, alpha=STRONGEST * min(1.0, share), linewidth=0))
    edge, linewidth = (INK, 2.2) if tile.is_removed else (LINE, 0.6)
    axis.add_patch(Rectangle(*box, facecolor="none", edgecolor=edge, linewidth=linewidth))
    middle = left + width / 2
    axis.text(middle, top + 0.31, abbreviate(tile.name, 14), va="center", ha="center", fontsize=8)
    text = DASH if value is None else f"{value:.2f}".replace("-", "−")
    axis.text(middle, top + 0.7, text + _half_width(tile), va="center", ha="center", fontsize=8.5, fontweight="bold")


def _half_width(tile: Tile) -> str:
    """Half the width of the interval, if there is one."""
    if not tile.ratio or not all(map(math.isfinite, tile.ratio)):
        return ""
    return f" ±{(tile.ratio[2] - tile.ratio[1]) / 2:.2f}"
