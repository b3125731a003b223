"""The figure of the docs' first page: `python benchmarks/scatter.py [docs/images/scatter.svg]`.

Each method of the suite canvas by what it removes and what it keeps, coloured by what relearning brings back. Made from canvas.jsonl and
attacked.jsonl alone.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import results
from attacked import BASE, RETRAINED, best
from matplotlib import pyplot as plt

from expunge.bench.summary import share, standings

OUT = results.HERE.parent / "docs" / "images" / "scatter.svg"
NOT_ATTACKED = "#b9bdc1"
TICKS = (0, 1, 5, 10, 25, 50, 80)
"""Percent missed. The axes are roots, since most methods miss little."""


@dataclass(frozen=True)
class Point:
    """One line of the table of results."""

    label: str
    removed: float
    """UA: the share of the concept's images in which the judge does not see it."""
    kept: float
    """The least of the retained shares, relative to the base model's."""
    back: float | None
    """After relearning, the share of images that show the concept, each run at its highest reading. None if no run was attacked from which
    the concept was gone."""


def points() -> list[Point]:
    """A point for each label, what removes most first."""
    recovered = relearned()
    lines = [s for s in standings(results.found("canvas")) if s.method not in ("none", "retrain") and s.retention is not None]
    made = [Point(s.label, s.metrics["UA"].value, s.retention, recovered.get(s.label)) for s in lines if s.retention is not None]
    return sorted(made, key=lambda point: -point.removed)


def relearned() -> dict[str, float]:
    """By label, what comes back under benchmarks/dimra.toml."""
    attacked = results.relearned()
    gone = {label: attacked.gone(label) for label in attacked.by_label if label not in (BASE, RETRAINED)}
    return {label: share([best([c]) for c in curves]).value for label, curves in gone.items() if curves}


def draw(every: list[Point], out: Path) -> None:
    plt.rcParams |= {"svg.hashsalt": "expunge", "svg.fonttype": "none", "font.size": 8.5}  # equal numbers give equal bytes
    figure, (axes, beside) = plt.subplots(1, 2, figsize=(8.6, 5.2), width_ratios=(1.55, 1), layout="constrained")
    colours = plt.get_cmap("RdYlBu_r")
    beside.set_axis_off()
    beside.text(0.13, 1.0, "method", weight="bold")
    beside.text(1.0, 1.0, "comes back", weight="bold", ha="right")
    for number, point in enumerate(every, 1):
        colour = NOT_ATTACKED if point.back is None else colours(point.back)
        at = (100 * max(0, 1 - point.kept)) ** 0.5, (100 * (1 - point.removed)) ** 0.5
        axes.scatter(*at, s=150, color=colour, edgecolor="#333", linewidth=0.7, zorder=2)
        ink = "white" if point.back is not None and min(point.back, 1 - point.back) < 0.15 else "black"
        axes.text(*at, str(number), ha="center", va="center_baseline", fontsize=7, color=ink, zorder=3)
        height = 1 - number / (len(every) + 1)
        beside.scatter(0.03, height + 0.011, s=110, color=colour, edgecolor="#333", linewidth=0.7, clip_on=False)
        beside.text(0.03, height + 0.011, str(number), ha="center", va="center_baseline", fontsize=7, color=ink)
        beside.text(0.13, height, point.label)
        beside.text(1.0, height, "–" if point.back is None else f"{point.back:.0%}", ha="right")
    beside.set(xlim=(0, 1), ylim=(0, 1.02))
    for axis, name in ((axes.xaxis, "retained images that are lost, at worst, %"), (axes.yaxis, "images that still show the concept, %")):
        axis.set_label_text(name)
        far = max(axis.get_view_interval()) + 0.3
        ticks = [tick for tick in TICKS if tick**0.5 < far]
        axis.set_ticks([tick**0.5 for tick in ticks], list(map(str, ticks)))
        axis.set_inverted(True)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Best: top right, blue", loc="left", fontsize=9)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    draw(points(), parser.parse_args().out)
