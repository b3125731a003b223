"""The look of all charts: SVG by matplotlib that stands inside the page, whose style sheet gives it its colours.

Colours are written as placeholders that become CSS variables, so that one chart serves light, dark and print.
"""

import io
import re
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

INK, SOFT, LINE, BASE, PAPER = "#010101", "#020202", "#030303", "#040404", "#0b0b0b"
RUNS = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKER_SYMBOLS = ("●", "■", "▲", "◆", "▼", "✚")
"""The shapes of `MARKERS` for the legend, which is text of the page."""
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", BASE: "base", PAPER: "paper", **{c: f"run{i}" for i, c in enumerate(RUNS)}}

CHART_WIDTH = 4.5
"""The width of a chart in inches; the page scales it."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "expunge", "text.parse_math": False, "text.usetex": False, "axes.unicode_minus": True,
    "font.size": 8.5, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": LINE, "axes.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.color": SOFT, "ytick.color": INK, "xtick.major.size": 3, "ytick.major.size": 0, "grid.color": LINE, "grid.linewidth": 0.6,
}  # fmt: skip


def marker_of(colour: int) -> str:
    """The marker of a colour's number. Colours repeat after six, then with other markers, so that 36 runs differ."""
    return MARKERS[(colour + colour // len(RUNS)) % len(MARKERS)]


def colour_of(number: int | None) -> str:
    """The colour of a run by its number, or of the base model for None."""
    return BASE if number is None else RUNS[number % len(RUNS)]


def percent(value: float, _: int | None = None) -> str:
    """A tick's label on an axis of percentages."""
    return f"{value:g} %"


def abbreviate(text: str, longest: int) -> str:
    """
    >>> abbreviate("watercolour", 11), abbreviate("watercolour", 6)
    ('watercolour', 'water…')
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def svg(figure: Figure, title: str) -> Markup:
    """A chart as it stands in a page."""
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
