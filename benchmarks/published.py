"""What the presets of published settings do on the canvas: `python benchmarks/published.py --keep benchmarks/published.jsonl`.

Each line of the file is one preset, with what differs from it, on one tuning concept, which no other table reports; of ESD also on *neon*.
What has a line is not measured again, and a killed run continues. `--set divergences` compares f-DMU's divergences at the released scale,
`--set mim-mu` searches rate, steps and prompts of the paper's form of MiM-MU. `--pictures 100` makes at most as many images of each sort to
train on, and the line says so. `--only` selects lines by text in their names, and `--dry-run` prices them.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.methods.presets import PRESETS, preset, read_preset
from expunge.models.loading import load
from expunge.progress import Silent
from expunge.runs.cost import price
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.session import Session

SHOWN = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")
CONCEPTS = {"pentagon": "disc", "stripes": None}
"""Tuning concepts, with the anchor of the methods that need one; None is the prompt without the concept."""
BESIDE: dict[str, tuple[str, ...]] = {"esd-published": ("neon",)}
"""Further concepts of a preset, which other tables report too. They need no anchor."""
PROTOCOL = Protocol(seeds=1, target_seeds=2, prompts=72, seed=999)
"""22 images or more of each name, and up to 72 of each other set of prompts, from noise that no report uses."""
RATES, STEPS, PROMPTS = (1e-5, 3e-5, 1e-4, 3e-4), (480, 1920), ("every", "bare")
"""The search of MiM-MU's paper form: 30 epochs of 64 images in batches of 4, and four times as many."""

Line = dict[str, Any]


def asked(which: str, most: int | None) -> list[Line]:
    """The presets of a set, with what differs from them; `most` images of each sort to train on."""
    made: list[tuple[str, Line, Line]]
    match which:
        case "divergences":
            made = [("f-dmu-published", {"divergence": name} if name else {}, {}) for name in ("", "kl", "chi2")]  # its own is Hellinger
        case "mim-mu":
            grid = itertools.product(STEPS, RATES, PROMPTS)
            made = [("mim-mu-paper", {}, {"lr": lr, "steps": steps, "points": 4 * steps, "prompts": p}) for steps, lr, p in grid]
        case _:
            made = [(name, {}, {}) for name in PRESETS if name.endswith("-published")]
    return [
        {"preset": name, "concept": concept, "settings": settings, "training": training | fewer(name, most)}
        for name, settings, training in made
        for concept in (*CONCEPTS, *(BESIDE.get(name, ()) if which == "presets" else ()))
    ]


def fewer(name: str, most: int | None) -> Line:
    """The numbers of images of a preset that are above `most`, lowered to it."""
    counts = read_preset(name).get("training", {})
    return {count: most for count in ("pictures", "retain_pictures") if most is not None and counts.get(count, 0) > most}


def named(line: Line) -> str:
    """The folder of a line's run."""
    return "-".join([line["preset"], line["concept"], *(f"{v}" for v in (*line["settings"].values(), *line["training"].values()))])


def arguments(line: Line) -> tuple[Concept, Line]:
    """The concept of a line, and the keywords of `expunge.unlearn`."""
    given, vocabulary = preset(line["preset"]), Vocabulary.canvas()
    training = given.pop("training", {}) | line["training"]
    synonyms = Concept.find(line["concept"], vocabulary).member.synonyms
    needs_anchor = given["method"] in ("ca", "f-dmu", "uce", "salun", "erase-diff")
    concept = Concept.find(line["concept"], vocabulary, synonyms, anchor=CONCEPTS.get(line["concept"]) if needs_anchor else None)
    return concept, {**given, **line["settings"], **({"training": training} if training else {})}


def priced(line: Line) -> Line:
    """The network calls of a line's run, one sample each, without those of its evaluation."""
    concept, given = arguments(line)
    session = Session.open("canvas", cache=Store.default(), progress=Silent())
    found = price(make_plan(session.model, concept, given.pop("method"), **given), session)
    return line | {"forwards": found.forwards, "backwards": found.backwards}


def measured(line: Line, runs: Path) -> Line:
    """The shares that are removed and kept, with those of the base model, and the cost."""
    canvas, store = load("canvas"), Store.default()
    concept, given = arguments(line)
    run = unlearn(canvas, concept, **given, out=runs / named(line), cache=store, progress=Silent())
    rows = evaluate(run, canvas, judge="main", metrics=SHOWN, protocol=PROTOCOL, cache=store, progress=Silent())
    shares: dict[str, Line] = {"base": {}, "shares": {}, "images": {}}
    for row in (r for r in rows if r.metric in SHOWN):
        shares["base" if row.run == "base" else "shares"][row.metric] = round(row.value, 4)
        shares["images"][row.metric] = row.n
    return line | shares | {name: run.card[name] for name in ("seconds", "forwards", "backwards")}


def tables(lines: Sequence[Line]) -> dict[str, str]:
    """The tables of docs/results/published.md, by name."""
    of_method = [line for line in lines if line["preset"] == "f-dmu-published"]
    return {
        "published": table([line for line in lines if line["preset"] != "mim-mu-paper" and not line["settings"]]),
        "published_divergences": table(of_method, divergence=lambda line: line["settings"].get("divergence", "hellinger")),
        "published_search": table(
            [line for line in lines if line["preset"] == "mim-mu-paper"],
            steps=lambda line: line["training"]["steps"],
            rate=lambda line: line["training"]["lr"],
            prompts=lambda line: line["training"]["prompts"],
        ),
    }


def table(lines: Sequence[Line], **columns: Callable[[Line], object]) -> str:
    """A row for each line, concept by concept: its preset, what `columns` read of it, and what is removed and kept in percent."""
    heads = ["preset", "concept", *columns, *SHOWN]
    text = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    concepts = [*CONCEPTS, *(concept for each in BESIDE.values() for concept in each)]
    for line in sorted(lines, key=lambda line: (concepts.index(line["concept"]), [*PRESETS].index(line["preset"]))):
        cells = [f"`{line['preset']}`", line["concept"], *(str(of(line)) for of in columns.values())]
        shares = [f"{100 * line['shares'][metric]:.0f}" for metric in SHOWN]
        text.append(f"| {' | '.join([*cells, *shares])} |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", dest="which", default="presets", choices=("presets", "divergences", "mim-mu"))
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--concepts", nargs="*")
    parser.add_argument("--only", nargs="*", default=[""], metavar="TEXT")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/published"))
    given = parser.parse_args()
    for line in asked(given.which, given.pictures):
        lines = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
        is_selected = (given.concepts is None or line["concept"] in given.concepts) and any(text in named(line) for text in given.only)
        if not is_selected or any(line == {key: done[key] for key in line} for done in lines):
            continue
        done = priced(line) if given.dry_run else measured(line, given.runs)
        if not given.dry_run:
            with given.keep.open("a") as file:
                file.write(json.dumps(done) + "\n")
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
