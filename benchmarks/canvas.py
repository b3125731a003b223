"""Repeats the measurements of docs/results.md: `python benchmarks/canvas.py` (about an hour on two cores; goes on where it stopped).

Every method, with its committed defaults, removes every concept of the list; each result is measured on its own pictures and
compared with the untouched model's from the same noise. Shares are pooled over concepts and seeds (Wilson interval over all
pictures), and "of base" is the ratio of the two pooled shares.
"""

import argparse
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from expunge.cache import write_atomically
from expunge.concept import Concept
from expunge.denoiser import load
from expunge.evaluation import evaluate, read_rows
from expunge.metrics.intervals import wilson
from expunge.render import Protocol
from expunge.run import unlearn
from expunge.types import Row
from expunge.vocabulary import Vocabulary

CONCEPTS = ("neon", "dots", "watercolour", "ring", "starfish", "hexagon")
"""Three styles and three objects, each with siblings. None was used to choose a default (that was done on those of `tune.py`)."""

METHODS: dict[str, tuple[str, bool, dict]] = {
    "MiM-MU": ("mim-mu", False, {}),
    "MiM-MU, synonym given": ("mim-mu", True, {}),
    "ESD": ("esd", False, {}),
    "UCE": ("uce", False, {}),
}
SHARES = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")


def measure(out: Path, seeds: int, concepts: tuple[str, ...], names: list[str]) -> None:
    canvas, vocabulary = load("canvas"), Vocabulary.canvas()
    jobs = [(n, c, s) for s in range(seeds) for n in names for c in concepts]
    for name, target, seed in track(jobs, "runs", console=Console(stderr=True)):
        method, given, settings = METHODS[name]
        concept = Concept.find(target, vocabulary)
        if given:
            concept = Concept.find(target, vocabulary, synonyms=concept.member.synonyms)
        folder = out / f"{name.replace(' ', '-').replace(',', '')}-{target}-{seed}".lower()
        run = unlearn(canvas, concept, method, seed=seed, out=folder, **settings)
        if not (folder / "evaluation" / "rows.jsonl").exists():
            evaluate(run, canvas, protocol=Protocol(seeds=1, target_seeds=3, seed=seed))
        rows = [asdict(r) | {"label": name} for r in read_rows(run)]
        write_atomically(folder / "labelled.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())


def table(out: Path, judge: str = "main") -> str:
    """Markdown of all that is there."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    costs: dict[str, list[dict]] = defaultdict(list)
    for file in sorted(out.glob("*/labelled.jsonl")):
        card = json.loads((file.parent / "card.json").read_text())
        for line in file.read_text().splitlines():
            row = json.loads(line)
            label = row.pop("label")
            if row["judge"] in (judge, "none"):
                found["untouched" if row["run"] == "base" else label, row["metric"]].append(Row(**row))
        costs[label].append(card)
    lines = ["| method | " + " | ".join(SHARES) + " | FID to base | KID to base ×10³ | weight change | null drift | seconds |"]
    lines.append("|---" * (len(SHARES) + 6) + "|")
    for label in ("untouched", *METHODS):
        if (label, "UA") not in found:
            continue
        cells = [
            _share(found[label, m], found["untouched", m] if m not in ("UA", "UA_syn") and label != "untouched" else None) for m in SHARES
        ]
        for metric, scale, digits in (("FID_base", 1, 2), ("KID_base", 1000, 2), ("weight_change", 100, 2), ("null_drift", 100, 2)):
            values = [r.value * scale for r in found[label, metric]]
            cells.append(f"{sum(values) / len(values):.{digits}f}" + (" %" if scale == 100 else "") if values else "–")
        seconds = sorted(c["seconds"] for c in costs[label])
        cells.append(f"{seconds[len(seconds) // 2]:.0f}" if seconds else "–")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _share(rows: list[Row], base: list[Row] | None) -> str:
    if not rows:
        return "–"
    n = sum(r.n for r in rows)
    hits = round(sum(r.value * r.n for r in rows))
    interval = wilson(hits, n)
    text = f"{100 * hits / n:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    if base:
        before = sum(r.value * r.n for r in base) / sum(r.n for r in base)
        text += f", {100 * hits / n / before:.1f} % of base"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--concepts", nargs="*", default=list(CONCEPTS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--table-only", action="store_true", help="print the table of what is measured already")
    parser.add_argument("--judge", default="main")
    arguments = parser.parse_args()
    if not arguments.table_only:
        measure(arguments.out, arguments.seeds, tuple(arguments.concepts), arguments.methods)
    print(table(arguments.out, arguments.judge))


if __name__ == "__main__":
    main()
