"""The picture at the top of the README: `python benchmarks/picture.py runs/demo docs/images/demo.png`.

Pairs from one run's evaluation, base model above, unlearned below: five prompts of the concept, three of its siblings, four others.
"""

import argparse
import json
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

COLUMNS = (("target", 5, "the concept"), ("siblings", 3, "its siblings"), ("same_domain", 4, "everything else"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.run / "evaluation"
    pairs = [p for p in json.loads((folder / "pictures.json").read_text()) if len(p["wanted"]) == 2]
    chosen = []
    for probe, count, title in COLUMNS:
        these = [p for p in pairs if p["probe"] == probe]
        chosen += [(p, title if i == 0 else "") for i, p in enumerate(these[:: max(1, len(these) // count)][:count])]
    figure, axes = plt.subplots(2, len(chosen), figsize=(1.25 * len(chosen), 3.4), dpi=120)
    figure.patch.set_facecolor("white")
    for column, (pair, title) in enumerate(chosen):
        for row, which in enumerate(("base", "unlearned")):
            axis = axes[row][column]
            axis.imshow(Image.open(folder / pair[which]).resize((192, 192), Image.Resampling.LANCZOS))
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
        axes[1][column].set_xlabel("\n".join(textwrap.wrap(pair["prompt"], 14)), fontsize=7.5, color="#444")
        axes[0][column].set_title(title, fontsize=10, loc="left", color="#111", fontweight="bold")
    axes[0][0].set_ylabel("base model", fontsize=9)
    axes[1][0].set_ylabel("unlearned", fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=0.2, w_pad=0.25)
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
