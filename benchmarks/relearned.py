"""What relearning brings back, to look at: `python benchmarks/relearned.py docs/images/relearned.png "SalUn=RUN/audit-dimra" ...`.

A line for each audit whose budget relearns once: of the same prompts, from the same noise, pictures before, at the reading that shows the
concept most often, and at the last. Which prompts an audit keeps pictures of differs from run to run, so lines differ in theirs.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from claims import JUDGE
from matplotlib import pyplot as plt
from PIL import Image

from expunge.audits.cells import Result
from expunge.audits.verdict import best_of

PICTURES = 4
"""Of a reading."""


def relearned(audit: Path) -> Result:
    """Of the unlearned model, the only one that is looked at where the concept is not asked for."""
    found = [Result.from_json(file.read_text(encoding="utf-8")) for file in sorted((audit / "cells").glob("*.json"))]
    [mine] = [r for r in found if r.attack == "relearn" and r.readings[0].unasked]
    return mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("audits", nargs="+", metavar="NAME=AUDIT")
    given = parser.parse_args()
    figure, axes = plt.subplots(len(given.audits), 3 * PICTURES, figsize=(13, 1.35 * len(given.audits)), dpi=120, squeeze=False)
    for line, (name, _, folder) in zip(axes, (audit.partition("=") for audit in given.audits), strict=True):
        result = relearned(Path(folder))
        for third, reading in enumerate((result.readings[0], best_of(result.readings, JUDGE), result.readings[-1])):
            steps = f"{reading.strength:.0f} steps" if reading.strength else "before"
            for axis, shown in zip(line[third * PICTURES :], reading.shown[:PICTURES], strict=False):
                axis.imshow(Image.open(Path(folder) / "pictures" / shown.picture).resize((192, 192), Image.Resampling.LANCZOS))
            line[third * PICTURES].set_title(f"{steps}: seen in {reading.hits[JUDGE]} of {reading.n}", fontsize=9, loc="left", color="#111")
        line[0].set_ylabel(name, fontsize=9)
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    figure.tight_layout(pad=0.4, h_pad=0.3, w_pad=0.2)
    figure.savefig(given.out)


if __name__ == "__main__":
    main()
