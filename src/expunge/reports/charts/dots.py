"""Charts of shares as lines of text with a drawing beside each: labels are never cut, and the chart is as wide as its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from expunge.reports.text.answers import STATUS_SYMBOLS, Status

Who = Literal["base", "run", "control"]
LANE = 12
"""Height of the lane of one model in a line's drawing, in CSS pixels."""
NAMES: dict[Who, str] = {"base": "base model", "run": "unlearned model", "control": "retrained control, which never saw the concept"}


@dataclass(frozen=True)
class Dot:
    """A model's share with its interval, from 0 to 1."""

    who: Who
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DotLine:
    """One line of a chart."""

    label: str
    note: str
    dots: tuple[Dot, ...]
    text: str
    """The number that the line is about."""
    details: tuple[str, ...]
    """Its interval, and what it is compared with."""
    status: Status | None = None

    @property
    def symbol(self) -> str:
        return STATUS_SYMBOLS[self.status] if self.status else ""

    @property
    def drawing(self) -> Markup:
        """The dots on a scale from 0 to 100 %. Strokes keep their width however far the drawing is stretched."""
        height = LANE * len(self.dots)
        parts = [f'<path class="grid" d="M{at} 0V{height}"/>' for at in (0, 50, 100)]
        for lane, dot in enumerate(self.dots):
            y = LANE * (lane + 0.5)
            parts.append(f'<path class="ends {dot.who}" d="M{_at(dot.low)} {y:g}H{_at(dot.high)}"/>')
            parts.append(f'<path class="dot {dot.who}" d="M{_at(dot.value)} {y:g}h0.001"/>')
            if dot.who == "base":
                parts.append(f'<path class="dot hollow" d="M{_at(dot.value)} {y:g}h0.001"/>')
        box = f'viewBox="0 0 100 {height}" height="{height}" preserveAspectRatio="none"'
        return Markup(f'<svg class="dots" aria-hidden="true" {box}>{"".join(parts)}</svg>')


@dataclass(frozen=True)
class DotGroup:
    """Lines under a heading."""

    title: str
    """Empty for the only group of a chart."""
    lines: tuple[DotLine, ...]


@dataclass(frozen=True)
class DotChart:
    """A chart of shares."""

    title: str
    """What is shared out: "Images that show the concept"."""
    groups: tuple[DotGroup, ...]

    @property
    def legend(self) -> list[tuple[Who, str]]:
        """The models in the chart."""
        shown = {dot.who for group in self.groups for line in group.lines for dot in line.dots}
        return [(who, name) for who, name in NAMES.items() if who in shown]


def dot_chart(title: str, groups: Sequence[DotGroup]) -> DotChart | None:
    """A chart of the groups that have lines; None without any."""
    kept = tuple(group for group in groups if group.lines)
    return DotChart(title, kept) if kept else None


def _at(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}"
