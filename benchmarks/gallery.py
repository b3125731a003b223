"""The gallery of the docs' first page: `python benchmarks/gallery.py RUN... [--out docs/images/gallery.webp]`.

One column for each prompt, one row for the base model and for each run of the canvas; equal noise in each column. Prompts and seeds are
fixed beforehand, so that nothing is picked.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor

from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.runs.run import Run

OUT = Path(__file__).parents[1] / "docs" / "images" / "gallery.webp"
PARTNERS = ("ring", "starfish", "lily", "hexagon")
EDGE = 128


def prompts(target: str, others: tuple[str, ...]) -> list[str]:
    """Prompts of the removed style, then of other styles."""
    return [*(f"a {name} in {target} style" for name in PARTNERS), *(f"a {n} in {o} style" for n, o in zip(PARTNERS, others, strict=True))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="runs that removed the same style from the canvas")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    model, runs = load("canvas", "cpu"), [Run(folder) for folder in given.runs]
    [concept] = {run.concept().parts[0].target for run in runs}
    siblings = [m.name for m in runs[0].concept().parts[0].siblings]
    others = [m.name for m in runs[0].concept().parts[0].others if m.name not in siblings]
    texts = prompts(concept, (*siblings[:2], *others[:2]))
    rows: list[tuple[str, dict[str, Tensor]]] = [("base model", {})] + [(run.card["method"], run.delta(model.fingerprint)) for run in runs]
    figure, axes = plt.subplots(len(rows), len(texts), figsize=(1.2 * len(texts), 1.2 * len(rows) + 0.5), dpi=110, squeeze=False)
    for place, (line, (name, delta)) in enumerate(zip(axes, rows, strict=True)):
        with swapped(model.network, delta):
            images = model.sample(texts, list(range(len(texts))), model.default_sampler)
        for axis, pixels, text in zip(line, images, texts, strict=True):
            axis.imshow(Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((EDGE, EDGE), Image.Resampling.LANCZOS))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if place == 0:
                axis.set_title(text.replace(" in ", "\nin "), fontsize=7.5, color="#444")
        line[0].set_ylabel(name, fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=0.2, w_pad=0.2)
    figure.savefig(given.out, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
