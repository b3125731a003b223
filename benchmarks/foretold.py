"""Does the information meter foretell what relearning brings back? `python benchmarks/foretold.py FOLDER --keep benchmarks/foretold.jsonl`

FOLDER is a suite's, whose runs were attacked by `relearn` (`[audit]`). Every such run is asked by the meter for what it still knows
of its concept; beside it stands how much more relearning brings back of it than of a model that never saw it: the area under its
curve less that of the retrained control's, or less nothing where there was none. Printed is Spearman's rank correlation over runs,
with a 95 % interval by the bootstrap over concepts. What the file has is not asked again.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from expunge.cache import write_atomically

ATTACK = "relearn"
DRAWS = 2000
"""Of the bootstrap."""


def attacked(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every run that was attacked so, with what came of it."""
    for file in sorted(folder.glob("runs/*/audit*/audit.json")):
        for finding in json.loads(file.read_text())["findings"]:
            if finding["attack"] == ATTACK:
                yield file.parents[1], finding


def asked(run: Path, finding: dict[str, Any]) -> dict[str, Any]:
    """The meter's ratio for the concept, beside the areas."""
    from expunge.asking import Meter
    from expunge.denoiser import load
    from expunge.retention import measure_information
    from expunge.run import Run

    made = Run(run)
    with tempfile.TemporaryDirectory() as folder:  # a copy: the run's own page of information is another, larger one
        copy = Run(Path(shutil.copytree(run, Path(folder) / run.name, ignore=shutil.ignore_patterns("audit*", "evaluation"))))
        found = measure_information(copy, load(made.card["model"]["name"]), meter=Meter(pictures=4, others=1, maps=0))
    [ratio] = [
        r for r in found.rows if (r.metric, r.probe, r.concept) == ("information_ratio", "target", finding["concept"]) and r.run != "base"
    ]
    areas = {key: finding[key] for key in ("area", "area_retrained")}
    about = {"run": run.name, "method": made.card["method"], "concept": finding["concept"], "settings": finding["best_settings"]}
    return about | {"ratio": ratio.value, "low": ratio.ci_low, "high": ratio.ci_high} | areas


def correlation(runs: Sequence[dict[str, Any]], seed: int = 0) -> tuple[float, float, float]:
    """Spearman's, with its interval; not a number where one of the two is the same in all runs.

    >>> correlation([{"ratio": x, "area": x**3, "area_retrained": None, "concept": "ring"} for x in (0.1, 0.2, 0.5, 0.9)])[0]
    1.0
    """
    pairs = np.array([(r["ratio"], r["area"] - (r["area_retrained"] or 0.0)) for r in runs])
    groups = [np.flatnonzero([r["concept"] == c for r in runs]) for c in dict.fromkeys(r["concept"] for r in runs)]
    generator = np.random.default_rng(seed)

    def rho(of: np.ndarray) -> float:
        return float(spearmanr(of[:, 0], of[:, 1]).statistic) if (np.ptp(of, 0) > 0).all() else float("nan")

    # Runs of one concept share its pictures and its controls: concepts are drawn, each with all its runs.
    drawn = [rho(pairs[np.concatenate([groups[g] for g in generator.integers(len(groups), size=len(groups))])]) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (float("nan"),) * 2
    return rho(pairs), float(low), float(high)


def said(runs: Sequence[dict[str, Any]]) -> str:
    """What it came to, in a line."""
    rho, low, high = correlation(runs)
    return f"Spearman's rho {rho:.2f} [{low:.2f}, {high:.2f}] over {len(runs)} runs of {len({r['concept'] for r in runs})} concepts"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a suite with [audit]")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON lines, a run each; default: nothing is kept")
    given = parser.parse_args()
    before = [json.loads(line) for line in given.keep.read_text().splitlines()] if given.keep and given.keep.exists() else []
    known = {(k["run"], k["concept"], k["area"]): k for k in before}
    for run, finding in attacked(given.folder):
        if (key := (run.name, finding["concept"], finding["area"])) not in known:
            known[key] = asked(run, finding)
            if given.keep:
                write_atomically(given.keep, "".join(json.dumps(k) + "\n" for k in known.values()).encode())
    kept = list(known.values())
    for k in kept:
        print(f"{k['method']:18} {k['concept']:12} ratio {k['ratio']:6.3f} [{k['low']:.3f}, {k['high']:.3f}]  area {k['area']:.3f}")
    print(said(kept))


if __name__ == "__main__":
    main()
