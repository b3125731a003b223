"""Draws how the cost grows, from what curves.py and growth.py measured: `python benchmarks/growth_figures.py [docs/images]`.

One figure each for steps, concepts, images and the bank on the disk. All axes are logarithmic: a cost in proportion is a straight line of
slope one, the dotted line.
"""

import argparse
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from speed_tables import lines_of

Line = dict[str, Any]
Panel = tuple[str, str, str, Sequence[Line]]
"""A title, what is across and what is up, and the lines: a `label`, an `x` and a `y` each."""

FOLDER = Path(__file__).parents[1] / "docs" / "images"
COLOURS = ("#1b6ca8", "#c8553d", "#588b8b", "#8e6c8a", "#d9a441", "#444444")


def chosen(lines: Sequence[Line], figure: str, way: str, y: str) -> list[Line]:
    """What a panel shows of the lines of curves.jsonl."""
    found = [line for line in lines if (line["figure"], line["way"]) == (figure, way)]
    return [{"label": line["what"], "x": line["x"], "y": line[y]} for line in found]


def panels() -> dict[str, list[Panel]]:
    """Each figure's panels, by the name of its file."""
    curves, uce = lines_of("curves"), lines_of("growth")
    seconds = "processor seconds on the canvas"
    passes = "samples through the network"
    images = [line for line in curves if line["figure"] == "images"]
    bank = [
        {"label": f"{line['what']}, {line['model']}, {line['way']}", "x": line["x"], "y": line["bytes"] / 2**20, "way": line["way"]}
        for line in images
    ]
    canvas = [line for line in images if line["model"] == "canvas"]
    spent = [{"label": line["what"], "x": line["concepts"], "y": line["processor_seconds"], "way": "measured"} for line in uce]
    peaks = [{"label": line["what"], "x": line["concepts"], "y": line["peak_bytes"] / 2**30, "way": "measured"} for line in uce]
    return {
        "growth-steps": [
            ("Counted", "steps", passes, chosen(curves, "steps", "counted", "forwards")),
            ("Measured, small banks", "steps", seconds, chosen(curves, "steps", "measured", "seconds")),
        ],
        "growth-concepts": [
            ("UCE on SD 1.5: time", "concepts", "processor seconds", spent),
            ("UCE on SD 1.5: memory", "concepts", "peak of the process, GiB", peaks),
            ("Trained: counted", "concepts", passes, chosen(curves, "concepts", "counted", "forwards")),
            ("Trained: measured", "concepts", seconds, chosen(curves, "concepts", "measured", "seconds")),
        ],
        "growth-images": [
            ("Counted", "images in the bank", passes, chosen(canvas, "images", "counted", "forwards")),
            ("Measured", "images in the bank", seconds, chosen(canvas, "images", "measured", "seconds")),
        ],
        "growth-bank": [("The bank on the disk", "images in the bank", "MiB", bank)],
    }


def draw(axes: Axes, panel: Panel) -> None:
    title, across, up, lines = panel
    key: Callable[[Line], str] = lambda line: line["label"]  # noqa: E731
    for colour, (label, group) in zip(COLOURS * 2, groupby(sorted(lines, key=key), key), strict=False):
        of = sorted(group, key=lambda line: line["x"])
        style = {"marker": "o", "linestyle": "none"} if of[0].get("way") == "measured" else {"marker": ".", "linewidth": 1.4}
        axes.plot([line["x"] for line in of], [line["y"] for line in of], color=colour, label=label, **style)
    if lines and "memory" not in title:
        first, last = (end(line["x"] for line in lines) for end in (min, max))
        low = min(line["y"] for line in lines if line["x"] == first)
        axes.plot([first, last], [low, low * last / first], color="#999", linestyle=":", linewidth=1)
    axes.set(title=title, xlabel=across, ylabel=up, xscale="log", yscale="log")
    across_at = sorted({line["x"] for line in lines})
    axes.set_xticks(across_at, [f"{x:,}" for x in across_at])
    axes.set_xticks([], minor=True)
    axes.title.set_fontsize(10)
    axes.grid(True, which="major", color="#ddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(axes.lines) > 5 else {}
    axes.legend(fontsize=7, frameon=False, **beside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    given = parser.parse_args()
    plt.rcParams |= {"svg.hashsalt": "expunge", "font.size": 8}  # equal numbers give equal bytes
    for name, every in panels().items():
        found = [panel for panel in every if len(panel[3]) > 1]  # a point alone shows no growth
        columns = min(len(found), 2)
        rows = -(-len(found) // columns)
        size = (3.9 * columns if columns > 1 else 5.6, 2.9 * rows)
        figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for place, panel in zip(axes.flat, found, strict=True):
            draw(place, panel)
        figure.savefig(given.folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
