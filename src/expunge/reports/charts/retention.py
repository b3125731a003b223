"""The retention map: how much of each concept is left, families down and their members across."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from expunge.reports.charts.figures import INK, LINE, RUNS, SOFT, STYLE, svg
from expunge.reports.words import DASH

ACROSS = 4
"""Tiles in a row; a larger family goes on in the next."""
STRONGEST = 0.62
"""Opacity of a tile that is kept whole. Text stands on it, in the page's ink."""
_HEIGHT, _GAP = 0.46, 0.06
_WIDTH, _LEFT = 4.5, 0.17


@dataclass(frozen=True)
class Tile:
    """One concept."""

    family: str
    """Empty: none."""
    name: str
    removed: bool
    ratio: tuple[float, float, float] | None
    """Information after over before, and its interval. None where before there was none to speak of."""


def retention(kind: str, tiles: Sequence[Tile]) -> Markup:
    """A tile for each concept of a kind: the fuller its colour the more is kept, and another colour below 0. Removed ones are framed."""
    lines: list[tuple[str, list[Tile]]] = []
    for family in dict.fromkeys(t.family for t in tiles):
        members = [t for t in tiles if t.family == family]
        for start in range(0, len(members), ACROSS):
            lines.append((family if start == 0 else "", members[start : start + ACROSS]))
    height = _HEIGHT * len(lines) + 0.04
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        axis = figure.add_axes((0.005, 0.0, 0.99, 1.0))
        for at, (family, members) in enumerate(lines):
            axis.text(0, at + 0.5, _cut(family, 13), va="center", ha="left", color=SOFT, fontsize=8)
            for place, tile in enumerate(members):
                width = (1 - _LEFT) / ACROSS
                _draw(axis, tile, _LEFT + place * width, at, width)
        axis.set_xlim(0, 1.002)
        axis.set_ylim(len(lines) + 0.02, -0.02)
        axis.axis("off")
        return svg(figure, f"How much of each {kind} is kept")


def _draw(axis: Axes, tile: Tile, left: float, top: float, width: float) -> None:
    value = tile.ratio[0] if tile.ratio and math.isfinite(tile.ratio[0]) else None
    inset = _GAP / 2
    box = (left + inset * width / 2, top + inset), width * (1 - inset), 1 - 2 * inset
    if value is not None:
        colour, share = (RUNS[0], value) if value >= 0 else (RUNS[1], -value)
        axis.add_patch(Rectangle(*box, facecolor=colour, alpha=STRONGEST * min(1.0, share), linewidth=0))
    axis.add_patch(Rectangle(*box, facecolor="none", edgecolor=INK if tile.removed else LINE, linewidth=2.2 if tile.removed else 0.6))
    middle = left + width / 2
    axis.text(middle, top + 0.31, _cut(tile.name, 14), va="center", ha="center", fontsize=8)
    text = DASH if value is None else f"{value:.2f}".replace("-", "−")
    axis.text(middle, top + 0.7, text + _spread(tile), va="center", ha="center", fontsize=8.5, fontweight="bold")


def _spread(tile: Tile) -> str:
    """Half the interval's width, where it has one."""
    if not tile.ratio or not all(map(math.isfinite, tile.ratio)):
        return ""
    return f" ±{(tile.ratio[2] - tile.ratio[1]) / 2:.2f}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
