"""What the presets of published settings do on the canvas: `python benchmarks/published.py --keep benchmarks/published.jsonl`.

Each line of the file is one preset, with what differs from it, on one tuning concept, which no results table reports. What has a line is
not measured again, and a killed run continues. `--set divergences` compares f-DMU's divergences at the released scale, `--set mim-mu`
searches rate, steps and prompts of the paper's form of MiM-MU; `--pictures 200` makes fewer images to train on, and the line says so.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.methods.presets import PRESETS, preset
from expunge.models.loading import load
from expunge.progress import Silent
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

SHOWN = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")
CONCEPTS = {"pentagon": "a circle", "stripes": None}
"""Tuning concepts, with the anchor of the methods that need one; None is the prompt without the concept."""
RATES, STEPS, PROMPTS = (1e-5, 3e-5, 1e-4, 3e-4), (480, 1920), ("every", "bare")
"""The search of MiM-MU's paper form: 30 epochs of 64 images in batches of 4, and four times as many."""

Line = dict[str, Any]


def asked(which: str, pictures: int | None) -> list[Line]:
    """The presets of a set, with what differs from them."""
    fewer = {} if pictures is None else {"pictures": pictures}
    made: list[tuple[str, Line, Line]]
    match which:
        case "divergences":
            made = [
                ("f-dmu-published", {"divergence": name}, {"max_grad_norm": limit})
                for name, limit in (("hellinger", 2.0), ("kl", 0.25), ("chi2", 0.25))
            ]
        case "mim-mu":
            grid = itertools.product(RATES, STEPS, PROMPTS)
            made = [("mim-mu-paper", {}, {"lr": lr, "steps": steps, "points": 4 * steps, "prompts": p}) for lr, steps, p in grid]
        case _:
            made = [(name, {}, {}) for name in PRESETS if name.endswith("-published")]
    return [
        {"preset": name, "concept": concept, "settings": settings, "training": {} if name == "uce-published" else training | fewer}
        for name, settings, training in made
        for concept in CONCEPTS
    ]


def measured(line: Line, runs: Path) -> Line:
    """The shares that are removed and kept, and the cost."""
    canvas, vocabulary, store = load("canvas"), Vocabulary.canvas(), Store.default()
    given = preset(line["preset"])
    training = {"training": given.pop("training", {}) | line["training"]} if line["preset"] != "uce-published" else {}
    needs_anchor = given["method"] in ("ca", "f-dmu", "uce")
    synonyms = Concept.find(line["concept"], vocabulary).member.synonyms
    concept = Concept.find(line["concept"], vocabulary, synonyms, anchor=CONCEPTS[line["concept"]] if needs_anchor else None)
    out = runs / "-".join([line["preset"], line["concept"], *(f"{v}" for v in (*line["settings"].values(), *line["training"].values()))])
    run = unlearn(canvas, concept, **{**given, **line["settings"]}, **training, out=out, cache=store, progress=Silent())
    rows = evaluate(run, canvas, judge="main", metrics=SHOWN, protocol=Protocol(budget="quick"), cache=store, progress=Silent())
    shares = {r.metric: round(r.value, 4) for r in rows if r.run != "base" and r.metric in SHOWN}
    return line | {"shares": shares} | {name: run.card[name] for name in ("seconds", "forwards", "backwards")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", dest="which", default="presets", choices=("presets", "divergences", "mim-mu"))
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--concepts", nargs="*", default=list(CONCEPTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/published"))
    given = parser.parse_args()
    for line in asked(given.which, given.pictures):
        lines = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
        if line["concept"] not in given.concepts or any(line == {key: done[key] for key in line} for done in lines):
            continue
        done = measured(line, given.runs)
        with given.keep.open("a") as file:
            file.write(json.dumps(done) + "\n")
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
