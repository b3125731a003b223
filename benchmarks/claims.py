"""What the papers claim against what was measured: `python benchmarks/claims.py CANVAS CLAIMS SEVERAL > claims.md`.

The three are folders that `expunge bench` filled: the suites `canvas`, `benchmarks/claims.toml` and `several`. A claim without its
units says so. Shares are pooled over concepts and seeds, by the main judge; a difference of two shares has Newcombe's interval.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.bench.config import read_suite
from expunge.bench.summary import Measured, Pooled, average, base_rows, measured, share
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import Interval

JUDGE = "main"
SAME = 0.05
"""Two shares whose difference lies within this, interval and all, are called equal."""
SUITES: dict[str, str | Path] = {"canvas": "canvas", "claims": Path(__file__).with_name("claims.toml"), "several": "several"}


class Missing(Exception):
    """A claim whose units are not measured."""


@dataclass(frozen=True)
class Found:
    """What a folder has."""

    units: Sequence[Measured]

    def of(self, label: str) -> list[Measured]:
        if not (mine := [u for u in self.units if u.label == label]):
            raise Missing(label)
        return mine

    def shared(self, *labels: str) -> "Found":
        """Those units of the labels that all of them have: the same concepts and seeds."""
        keys = [{(u.concept, u.seed) for u in self.of(label)} for label in labels]
        both = set.intersection(*keys)
        return Found([u for u in self.units if u.label in labels and (u.concept, u.seed) in both])

    def share(self, label: str, metric: str) -> Pooled:
        return share([r for u in self.of(label) for r in u.rows if _counts(r, metric)])

    def mean(self, label: str, metric: str) -> Pooled:
        return average([r for u in self.of(label) for r in u.rows if r.metric == metric and r.run != "base"])

    def base(self, label: str, metric: str) -> Pooled:
        return share([r for r in base_rows(self.of(label), JUDGE) if r.metric == metric])


def _counts(row: Row, metric: str) -> bool:
    return row.metric == metric and row.run != "base" and row.judge == JUDGE and row.attack == "none"


def difference(a: Pooled, b: Pooled) -> Interval:
    """a - b with Newcombe's hybrid score interval (R. G. Newcombe, 1998, Stat. Med. 17:873, method 10), for unpaired shares, from their
    own intervals, which are widened by as much as concepts differ.

    The pictures are paired by their noise, which makes it too wide rather than too narrow.
    """
    (p, low, high), (q, lower, higher) = ((x.value, x.low, x.high) for x in (a, b))
    return Interval(
        p - q,
        p - q - math.sqrt((p - low) ** 2 + (higher - q) ** 2),
        p - q + math.sqrt((high - p) ** 2 + (q - lower) ** 2),
    )


def verdict(found: Interval | Pooled, bar: float, below: bool = False) -> str:
    """Whether a number is at least the bar (or at most): by its whole interval, by its value alone, or not."""
    sign = -1 if below else 1
    low, high = sorted((sign * found.low, sign * found.high))
    if low >= sign * bar:
        return "holds"
    if high < sign * bar:
        return "does not hold"
    return (
        "holds in the mean, the interval reaches past the bar" if sign * found.value >= sign * bar else "not met, the interval reaches it"
    )


def shown(found: Interval | Pooled, unit: str = " %") -> str:
    ends = f" [{100 * found.low:.1f}, {100 * found.high:.1f}]" if math.isfinite(found.low) else ""
    return f"{100 * found.value:.1f}{unit}{ends}"


def line(claim: str, bar: str, what: str, outcome: str) -> str:
    return f"| {claim} | {bar} | {what} | {outcome} |"


def mim_mu(canvas: Found) -> Iterator[str]:
    ua = canvas.share("MiM-MU", "UA")
    yield line("MiM-MU forgets (2603.00992)", "UA at least 98 %", shown(ua), verdict(ua, 0.98))
    drift = canvas.mean("MiM-MU", "null_drift")
    yield line("its empty prompt stays", "null drift at most 5 %", shown(drift), verdict(drift, 0.05, below=True))


def beside_salun(canvas: Found) -> Iterator[str]:
    for salun in ("SalUn", "SalUn, all weights"):  # the latter spares more and leaves more
        both = canvas.shared("MiM-MU", salun)
        for metric in ("NRA", "ORA"):
            apart = difference(both.share("MiM-MU", metric), both.share(salun, metric))
            bar = f"{metric} at least that of {salun}, with retain data"
            yield line("without retain data it spares what is retained", bar, shown(apart, " points"), verdict(apart, 0.0))


def partial_information(canvas: Found) -> Iterator[str]:
    both = canvas.shared("MiM-PID", "MiM-MU, whiten 0")
    plain, pid = (1 - both.share(label, "NRA").value for label in ("MiM-MU, whiten 0", "MiM-PID"))
    ua, nra = (difference(both.share("MiM-PID", m), both.share("MiM-MU, whiten 0", m)) for m in ("UA", "NRA"))
    what = f"loss of NRA {100 * pid:.1f} for {100 * plain:.1f} points ({shown(nra, ' points')}); UA differs by {shown(ua, ' points')}"
    spares = pid <= 2 / 3 * plain and nra.low > 0
    equal = (
        "at equal UA" if ua.low >= -SAME and ua.high <= SAME else "whether at equal UA cannot be told" if ua.high >= 0 else "at lower UA"
    )
    met = f"siblings are spared, {equal}" if spares else "does not hold"
    claim = "the partial-information variant spares siblings that MiM-MU without whitened steps loses"
    yield line(claim, f"loss of NRA lower by a third, UA within {100 * SAME:.0f} points", what, met)


def f_dmu(claims: Found) -> Iterator[str]:
    for budget in (", 40 steps", ""):
        for several in ("", ", 5 together"):
            labels = [f"{name}{budget}{several}" for name in ("squared Hellinger", "KL", "chi-square")]
            if not all(any(u.label == label for u in claims.units) for label in labels):
                continue
            for other in labels[1:]:
                gaps = [difference(claims.share(labels[0], m), claims.share(other, m)) for m in ("UA", "NRA")]
                what = ", ".join(f"{m} {shown(gap, ' points')}" for m, gap in zip(("UA", "NRA"), gaps, strict=True))
                better, worse = any(gap.low > 0 for gap in gaps), any(gap.high < 0 for gap in gaps)
                met = "mixed" if better and worse else "better" if better else "worse" if worse else "cannot tell"
                yield line(f"{labels[0]} against {other} (2509.21167)", "more forgotten, more spared", what, met)
    if not claims.units:
        raise Missing("f-DMU")


def pure(canvas: Found) -> Iterator[str]:
    ua, apart = canvas.share("PURE", "UA"), difference(canvas.share("PURE", "IRA"), canvas.base("PURE", "IRA"))
    yield line("PURE forgets within 100 steps (BRJserk9XM)", "UA at least 98 %", shown(ua), verdict(ua, 0.98))
    yield line("and keeps what is retained", "IRA within 2 points of base", shown(apart, " points"), verdict(apart, -0.02))


def resurgence(several: Found) -> Iterator[str]:
    sequences = [u for u in several.units if u.label.startswith("MiM-MU, 5 in sequence")]
    if not sequences:
        raise Missing("MiM-MU, 5 in sequence")
    last = [r for u in sequences for r in u.rows if _counts(r, "UA")]
    first: dict[tuple[str, int], Row] = {}
    for row in (r for u in sequences for r in u.stages if _counts(r, "UA")):
        first.setdefault((row.concept, row.seed), row)
    own = [first.get((r.concept, r.seed), r) for r in last]
    apart = difference(share(last), share(own))
    yield line(
        "MiM-MU over five concepts in sequence: none comes back",
        "UA falls by at most 2 points",
        shown(apart, " points"),
        verdict(apart, -0.02),
    )


PARTS: dict[str, tuple[Callable[[Found], Iterator[str]], str]] = {
    "MiM-MU": (mim_mu, "canvas"),
    "MiM-MU without retain data against SalUn with it": (beside_salun, "canvas"),
    "the partial-information variant": (partial_information, "canvas"),
    "f-DMU: Hellinger against other divergences": (f_dmu, "claims"),
    "PURE within 100 steps": (pure, "canvas"),
    "MiM-MU over five concepts in sequence": (resurgence, "several"),
}
"""Claims, and the suite whose units they are made of."""


def told(lines: Iterable[str]) -> str:
    """Claims, in Markdown."""
    return "\n".join(["| claim | what it asks | measured, with 95 % interval | verdict |", "|---|---|---|---|", *lines]) + "\n"


def table(found: Mapping[str, Found]) -> str:
    """Every claim of erasing and of keeping."""
    lines = []
    for what, (part, suite) in PARTS.items():
        try:
            lines += list(part(found[suite]))
        except Missing:
            lines.append(line(what, "–", "–", "not measured"))
    return told(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in SUITES:
        parser.add_argument(name, type=Path, help=f"folder of the suite {name}")
    given = parser.parse_args()
    print(table({name: Found(measured(read_suite(suite).units, getattr(given, name))) for name, suite in SUITES.items()}), end="")


if __name__ == "__main__":
    main()
