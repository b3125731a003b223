"""Does the information meter foretell what comes back? `python benchmarks/foretold.py FOLDER benchmarks/foretold.jsonl`

FOLDER is a suite's. Every run in it whose relearning or whose learned word `attacked.jsonl` has is asked by the meter for what it
still knows of its concept. Beside the ratio stands how much more an attack brings back than of a model that never saw the concept: of
DiMRA the area under its curve less that of the retrained control's, of a learned word the best reading less the control's. Printed is
Spearman's rank correlation over runs, with a 95 % interval by the bootstrap over concepts. What the file has is not asked again.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from attacked import BASE, RETRAINED, Curve, best, under
from attacked import kept as attacked
from scipy.stats import spearmanr

from expunge.audits.budget import read_budget
from expunge.audits.verdict import area_under
from expunge.storage.files import write_atomically

HERE = Path(__file__).parent
DRAWS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Asked:
    """What the meter said of a run: information unlearned over that of the base model, for pictures of the concept, with its interval."""

    of: str
    """The unit's folder."""
    concept: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """What was foretold, and what came."""

    concept: str
    ratio: float
    gained: float


def area(curve: Curve) -> float:
    """Under the curve."""
    return area_under([(r["strength"], curve.at(r["strength"]).value) for r in curve.readings])


def peak(curve: Curve) -> float:
    """The best reading after the first."""
    return best([curve]).value


MEASURES = {
    "DiMRA": ("dimra", "relearn", area),
    "a learned word": ("battery", "inversion", peak),
}
"""What the meter might foretell: budget, attack, and how much of a curve came back."""


def curves(found: Iterable[Curve], budget: str, attack: str) -> list[Curve]:
    """Those of one attack with the settings of a budget."""
    asked = read_budget(HERE / f"{budget}.toml")
    return under(found, asked, *(e for e in asked.entries if e.name == attack))


def pairs(asked: Sequence[Asked], found: Sequence[Curve], measure: str) -> list[Pair]:
    """Of every run that was asked and attacked beside its control."""
    budget, attack, much = MEASURES[measure]
    of_one = curves(found, budget, attack)
    control = {(c.concept, c.seed): much(c) for c in of_one if c.of == RETRAINED}
    ratios = {a.of: a.ratio for a in asked}
    mine = [c for c in of_one if c.of in ratios and (c.concept, c.seed) in control]
    return [Pair(c.concept, ratios[c.of], much(c) - control[c.concept, c.seed]) for c in mine]


def correlation(of: Sequence[Pair], seed: int = 0) -> tuple[float, float, float]:
    """Spearman's, with its interval; not a number where one of the two is the same in all runs.

    >>> correlation([Pair("ring", x, x**3) for x in (0.1, 0.2, 0.5, 0.9)])[0]
    1.0
    """
    table = np.array([(p.ratio, p.gained) for p in of])
    groups = [np.flatnonzero([p.concept == c for p in of]) for c in dict.fromkeys(p.concept for p in of)]
    generator = np.random.default_rng(seed)

    def rho(of: np.ndarray) -> float:
        return float(spearmanr(of[:, 0], of[:, 1]).statistic) if (np.ptp(of, 0) > 0).all() else float("nan")

    @cache
    def redrawn(chosen: tuple[int, ...]) -> float:
        return rho(table[np.concatenate([groups[g] for g in chosen])])

    # Runs of one concept share its pictures and its controls: concepts are drawn, each with all its runs. In whichever order.
    drawn = [redrawn(tuple(sorted(generator.integers(len(groups), size=len(groups)).tolist()))) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (float("nan"),) * 2
    return rho(table), float(low), float(high)


def said(asked: Sequence[Asked], found: Sequence[Curve]) -> str:
    """What it came to, a line for each measure."""
    lines = ["| against | Spearman's rho | runs | concepts |", "|---|---:|---:|---:|"]
    for measure in MEASURES:
        if of := pairs(asked, found, measure):
            rho, low, high = correlation(of)
            lines.append(f"| {measure} | {rho:.2f} [{low:.2f}, {high:.2f}] | {len(of)} | {len({p.concept for p in of})} |")
    return "\n".join(lines) + "\n"


def kept(file: Path) -> list[Asked]:
    """What a file has; nothing where there is none."""
    return [Asked(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def ask(run: Path, concept: str) -> Asked:
    """Asks the meter: four pictures of every other concept, sixteen of this one."""
    from expunge.evaluation.information.interview import Meter
    from expunge.evaluation.information.retention import measure_information
    from expunge.models.loading import load
    from expunge.runs.run import Run

    made = Run(run)
    with tempfile.TemporaryDirectory() as folder:  # a copy: the run's own page of information is another, larger one
        copy = Run(Path(shutil.copytree(run, Path(folder) / run.name, ignore=shutil.ignore_patterns("audit*", "evaluation"))))
        found = measure_information(copy, load(made.card["model"]["name"]), meter=Meter(pictures=4, others=1, maps=0))
    [ratio] = [r for r in found.rows if (r.metric, r.probe, r.concept) == ("information_ratio", "target", concept) and r.run != "base"]
    return Asked(run.name, concept, ratio.value, ratio.ci_low, ratio.ci_high)


def unasked(folder: Path, found: Sequence[Curve], known: Sequence[Asked]) -> Iterator[tuple[Path, str]]:
    """Runs of the folder with weights that were attacked and not asked, with their concept."""
    mine = [c for budget, attack, _ in MEASURES.values() for c in curves(found, budget, attack) if c.of not in (RETRAINED, BASE)]
    for of, concept in sorted({(c.of, c.concept) for c in mine} - {(a.of, a.concept) for a in known}):
        if (folder / "runs" / of / "delta.safetensors").exists():
            yield folder / "runs" / of, concept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the suite's folder")
    parser.add_argument("file", type=Path, help="JSON lines, a run each")
    given = parser.parse_args()
    found, asked = attacked(HERE / "attacked.jsonl"), kept(given.file)
    for run, concept in unasked(given.folder, found, asked):
        asked = sorted([*asked, ask(run, concept)], key=lambda a: a.of)
        write_atomically(given.file, "".join(json.dumps(asdict(a)) + "\n" for a in asked).encode())
        print(asked[-1], flush=True)
    print(said(asked, found))


if __name__ == "__main__":
    main()
