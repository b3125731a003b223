"""Fills the tables of docs/results/digits.md from `digits.jsonl`: `python benchmarks/digits_page.py`. A test holds the page to it.

With `--runs runs/digits` it also makes the picture, of the runs with seed 0 that erase 7 and 8.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from digits import CONTROL, HERE, kept, suite

from expunge.evaluation.statistics import clustered, student

PAGE = HERE.parent / "docs" / "results" / "digits.md"
PICTURE = HERE.parent / "docs" / "images" / "digits.png"
SHOWN = ("7", "8")
"""The erased digits of the picture."""
BAR = 0.05
"""How far above the retrained model, as a share of images, counts as brought back."""
ALIKE = "at most 5 points above the retrained model"
ABOVE = "more than 5 points above the retrained model"
DIGITS = 4
"""Fewer digits than these say too little of how digits differ for a verdict."""
EXPECTED = {"DiMUM": ALIKE, "SalUn": ABOVE, "ESD": ABOVE, "MiM-MU": ABOVE, "Supplant": ALIKE}
"""What DiMRA's paper, or for MiM-MU and Supplant the canvas, leads one to expect after relearning."""

Unit = Mapping[str, Any]


def percent(parts: Iterable[tuple[int, int]]) -> str:
    """A share of images with its interval, clustered by digit."""
    share = clustered(list(parts))
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def by_digit(units: Sequence[Unit], count: Any) -> list[tuple[int, int]]:
    """(hits, n) of each digit, over its seeds."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for unit in units:
        found[unit["digit"]].append(count(unit))
    return [(sum(h for h, _ in of), sum(n for _, n in of)) for of in found.values()]


def share_of(key: str) -> Any:
    """Counts of a share that a unit keeps as value and n."""
    return lambda unit: (round(unit[key][0] * unit[key][1]), unit[key][1])


def labels() -> list[str]:
    """The methods in the order of the suite, the control first."""
    return [CONTROL, *(method["label"] for method in suite()["methods"])]


def removal(units: Sequence[Unit]) -> str:
    """Forgetting, retained accuracy and the distance to real scans, a row for each method."""
    columns = ("", "digits × seeds", "UA", "retained accuracy", "FID to real scans", "of the base model")
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for label in labels():
        if of := [u for u in units if u["method"] == label]:
            count = f"{len({u['digit'] for u in of})} × {len({u['seed'] for u in of})}"
            shares = [percent(by_digit(of, share_of(f"run {metric}"))) for metric in ("UA", "IRA")]
            distances = [f"{mean(u[f'{side} FID_drawn'][0] for u in of):.2f}" for side in ("run", "base")]
            lines.append(f"| {label} | {count} | {' | '.join((*shares, *distances))} |")
    return "\n".join(lines)


def relearned(units: Sequence[Unit]) -> str:
    """The share of images in which the judge sees the digit, after each number of steps."""
    attacked = [u for u in units if "relearn" in u]
    if not attacked:
        return "Not measured."
    steps = [int(strength) for strength, _, _ in attacked[0]["relearn"]["unlearned"]]
    lines = ["| steps | digits × seeds | " + " | ".join(map(str, steps)) + " |", "|---|---:|" + "---:|" * len(steps)]
    first = {(u["digit"], u["seed"]): u for u in reversed(attacked)}  # both controls are attacked once for a digit and seed
    rows = [("base model", list(first.values()), "base"), ("retrained", list(first.values()), "retrained")]
    rows += [(label, [u for u in attacked if u["method"] == label], "unlearned") for label in labels()]
    for label, of, role in rows:
        if of:
            cells = [percent(by_digit(of, reading(role, i))) for i in range(len(steps))]
            count = f"{len({u['digit'] for u in of})} × {len({u['seed'] for u in of})}"
            lines.append(f"| {label} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reading(role: str, at: int) -> Any:
    """Counts of one reading of an attack."""
    return lambda unit: tuple(unit["relearn"][role][at][1:])


def returned(units: Sequence[Unit]) -> tuple[float, float, float]:
    """How much more often the digit is seen at the end than in the retrained model: the mean over digits, and Student's 95 % interval.

    Its standard error is that of the digits' differences, but at least what as many independent images have, with one more of each kind in
    each share: few digits may agree by chance.
    """
    pairs = list(zip(*(by_digit(units, reading(role, -1)) for role in ("unlearned", "retrained")), strict=True))
    each = [mine[0] / mine[1] - control[0] / control[1] for mine, control in pairs]
    middle, count = mean(each), len(each)
    shares = [((hits + 1) / (n + 2), n) for pair in pairs for hits, n in pair]
    by_images = sum(p * (1 - p) / n for p, n in shares) ** 0.5 / count
    by_digits = (sum((d - middle) ** 2 for d in each) / (count - 1) / count) ** 0.5
    reach = student(count - 1) * max(by_images, by_digits)
    return middle, middle - reach, middle + reach


def claims(units: Sequence[Unit]) -> str:
    """Whether what was expected of each method held. "Holds" needs the whole interval on the right side of the bar."""
    lines = ["| method | expected after relearning | points above the retrained model, with 95 % interval | verdict |", "|---|---|---|---|"]
    for label, expected in EXPECTED.items():
        of = [u for u in units if u["method"] == label and "relearn" in u]
        count = len({u["digit"] for u in of})
        if count < DIGITS:
            lines.append(f"| {label} | {expected} | – | {f'only {count} digits are measured' if count else 'not measured'} |")
            continue
        value, low, high = returned(of)
        sides = [bound <= BAR if expected == ALIKE else bound > BAR for bound in (value, low, high)]
        verdict = "holds" if all(sides) else "does not hold" if not any(sides) else "open: the interval reaches past the bar"
        told = f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]; {len(of)} runs of {len({u['digit'] for u in of})} digits"
        lines.append(f"| {label} | {expected} | {told} | {verdict} |")
    return "\n".join(lines)


def filled(page: str, units: Sequence[Unit]) -> str:
    """The page with its tables."""
    for name, table in (("removal", removal(units)), ("relearned", relearned(units)), ("claims", claims(units))):
        before, rest = page.split(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return page


def draw(runs: Path, digits: Sequence[str], names: Sequence[str], out: Path, each: int = 4) -> None:
    """A line for each run with seed 0: images by the base model, after unlearning, and after relearning, of the same noise."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from PIL import Image

    from expunge.audits.cells import Result

    methods = {method["label"]: method["name"] for method in suite()["methods"]}
    lines = [(f"{name}, {digit}", folder) for name in names for digit in digits if (folder := _audit(runs, methods[name], digit))]
    figure, axes = plt.subplots(len(lines), 3 * each, figsize=(3 * each * 0.75, 0.95 * len(lines)), dpi=120, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, (title, folder) in zip(axes, lines, strict=True):
        results = [Result.from_json(file.read_text(encoding="utf-8")) for file in sorted((folder / "cells").glob("*.json"))]
        [mine] = [r for r in results if r.readings[0].unasked]
        [base] = [r for r in results if r is not mine and r.readings[0].hits["digits"] > r.readings[0].n / 2]
        thirds = (("base", base.readings[0]), ("erased", mine.readings[0]), (f"{mine.readings[-1].strength:.0f} steps", mine.readings[-1]))
        for third, (name, found) in enumerate(thirds):
            for axis, shown in zip(row[third * each :], found.shown[:each], strict=False):
                axis.imshow(Image.open(folder / "pictures" / shown.picture), interpolation="nearest")
            row[third * each].set_title(f"{title}: {name}" if third == 0 else name, fontsize=7, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(out)


def _audit(runs: Path, method: str, digit: str) -> Path | None:
    found = sorted((runs / "runs" / f"{method}-{digit}-0").glob("audit*"))
    return found[0] if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, help="the folder of the runs, to make the picture")
    given = parser.parse_args()
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")
    if given.runs:
        draw(given.runs, SHOWN, suite()["first"], PICTURE)


if __name__ == "__main__":
    main()
