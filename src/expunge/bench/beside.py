"""Sets measured numbers beside published ones. Imports no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expunge.bench.published import About, Found, Reported
from expunge.bench.summary import Measured, Pooled, standings

NOT_COMPARABLE = "Not the same machine, and not the same judge or data unless it says so: compare the order of methods, not the digits."
"""What is said of every such table."""


@dataclass(frozen=True)
class Pair:
    """A published number with ours."""

    method: str
    metric: str
    of: str
    ours: Pooled | None
    """None: not measured here."""
    is_unfit: bool
    """Whether nothing follows from ours, because the judge does not recognise the base model's images."""
    published: float
    source: str


@dataclass(frozen=True)
class Beside:
    """The published protocol of a suite, and its numbers beside ours."""

    about: About
    pairs: tuple[Pair, ...]
    data: tuple[Found, ...]
    judges: tuple[str, ...]
    """Each judge of ours, with its version."""


def set_beside(
    about: About, reported: Sequence[Reported], found: Sequence[Measured], data: Iterable[Found], judges: Iterable[str]
) -> Beside:
    """Every published number with ours of the same method, metric and concept, or kind of concept, pooled as in the table of the suite.

    A method that has several entries in the suite has a pair for each. Runs that removed several concepts are left out, because published
    numbers are of one at a time.
    """
    single = [m for m in found if m.targets == 1]
    tables = {of: standings([m for m in single if not of or of in (m.concept, m.kind)]) for of in dict.fromkeys(r.of for r in reported)}
    pairs = []
    for r in reported:
        lines = [line for line in tables[r.of] if line.method == r.method]
        ours: list[tuple[str, Pooled | None, bool]] = [(line.label, line.metrics.get(r.metric), line.is_unfit(r.metric)) for line in lines]
        pairs += [
            Pair(label, r.metric, r.of, pooled, unfit, r.value, r.source) for label, pooled, unfit in ours or [(r.method, None, False)]
        ]
    return Beside(about, tuple(pairs), tuple(data), tuple(dict.fromkeys(judges)))


def markdown(beside: Beside) -> str:
    """The table for a page of documentation."""
    rows = ["| method | of | metric | here | published | source |", "|---" * 6 + "|"]
    for p in beside.pairs:
        here = "–" if p.ours is None else f"{p.ours.value:.4g}{' (judge unfit)' if p.is_unfit else ''}"
        rows.append(f"| {p.method} | {p.of or '–'} | {p.metric} | {here} | {p.published:.4g} | {p.source} |")
    judges = f"Judges here: {', '.join(beside.judges) or 'none'}. Published judge: {beside.about.judge or 'as here'}."
    return "\n".join([*rows, "", f"{NOT_COMPARABLE} {judges}", ""])
