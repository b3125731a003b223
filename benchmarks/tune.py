"""How the methods' defaults were found: `python benchmarks/tune.py esd --given --try surrogate=null,context --try whiten=0,1e-3`.

Tries every combination on a style and an object that no reported result uses, on pictures of a noise of their own, and prints
what each forgets and spares. Settings of the method and of its training go by their names. With `--keep FILE` every trial becomes a
line of the file, and what has a line there is not tried again: benchmarks/tuning.jsonl was made so, and the methods' pages show it.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

CONCEPTS = ("stripes", "pentagon")
NOISE = 999
"""Of the pictures that are judged: no report uses it."""
PROMPTS = 72
"""At most, of each probe: half of the others of the concept's kind, and all of the rest."""
SHOWN = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")


def parsed(text: str) -> list[object]:
    def value(word: str) -> object:
        for kind in (int, float):
            try:
                return kind(word)
            except ValueError:
                pass
        return word

    return [value(word) for word in text.split(",")]


def described(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "the defaults"


def tried(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def trials(given: argparse.Namespace) -> list[dict[str, Any]]:
    """What is asked for, the settings that are left alone among it: a line is to be true when a default has changed."""
    from dataclasses import asdict, replace

    from expunge.config import settings
    from expunge.methods.base import Training
    from expunge.methods.config import find_method

    method = find_method(given.method)
    names = [t.partition("=")[0] for t in given.tries]
    asked = []
    for values in itertools.product(*(parsed(t.partition("=")[2]) for t in given.tries)):
        chosen = dict(zip(names, values, strict=True))
        training = {k: v for k, v in chosen.items() if k in Training.__dataclass_fields__}
        own = settings(method(**{k: v for k, v in chosen.items() if k not in training}))
        every = asdict(replace(method.training, **training)) if hasattr(method, "training") else {}
        asked += [
            {"method": given.method, "concept": c, "given": given.given, "chosen": chosen, "settings": own, "training": every}
            for c in given.concepts
        ]
    return asked


def measured(trial: dict[str, Any]) -> dict[str, Any]:
    from expunge.concepts.concept import Concept
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.evaluation.evaluate import evaluate
    from expunge.evaluation.protocol import Protocol
    from expunge.models.loading import load
    from expunge.runs.unlearn import unlearn
    from expunge.storage.cache import Store

    canvas, vocabulary, store = load("canvas"), Vocabulary.canvas(), Store.default()
    concept = Concept.find(trial["concept"], vocabulary)
    if trial["given"]:
        concept = Concept.find(trial["concept"], vocabulary, synonyms=concept.member.synonyms)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = unlearn(canvas, concept, trial["method"], training=trial["training"] or None, out=out, cache=store, **trial["settings"])
        protocol = Protocol(seeds=1, target_seeds=2, prompts=PROMPTS, seed=NOISE)
        rows = evaluate(run, canvas, judge="main", metrics=SHOWN, protocol=protocol, cache=store)
        shares = {r.metric: round(r.value, 4) for r in rows if r.run != "base" and r.metric in SHOWN}
        card = run.card
    return trial | {"shares": shares} | {name: card[name] for name in ("seconds", "forwards", "backwards")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="SETTING=A,B,C")
    parser.add_argument("--concepts", nargs="*", default=list(CONCEPTS))
    parser.add_argument("--given", action="store_true", help="give the synonym too")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="JSON lines, a trial each; default: nothing is kept")
    given = parser.parse_args()
    by_itself = trials(argparse.Namespace(method=given.method, tries=[], concepts=[""], given=given.given))[0]

    def same(done: dict[str, Any], asked: dict[str, Any]) -> bool:
        # A line that is older than a setting was tried at what that is by itself.
        old = {key: by_itself[key] | done[key] for key in ("settings", "training")}
        return all(old.get(key, done[key]) == asked[key] for key in ("method", "concept", "given", "settings", "training"))

    for trial in trials(given):
        done = next((t for t in tried(given.keep) if same(t, trial)), None) if given.keep else None
        if done is None:
            done = measured(trial)
            if given.keep:
                with given.keep.open("a") as file:
                    file.write(json.dumps(done) + "\n")
        shares = " ".join(f"{m} {done['shares'][m]:.3f}" for m in SHOWN)
        print(f"{done['method']:18} {done['concept']:10} {described(done['chosen']):45} {shares}  {done['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
