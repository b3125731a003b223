"""How the methods' defaults were found: `python benchmarks/tune.py mim-mu --try steps=40,80,120 --try lr=1e-4,3e-4`.

Tries every combination on a style and an object that no reported result uses, on pictures of a noise of their own, and prints
what each forgets and hurts. Settings of the method and of its training go by their names.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from expunge.cache import Store
from expunge.concept import Concept
from expunge.config import find_method
from expunge.denoiser import load
from expunge.evaluation import evaluate
from expunge.objective import Training
from expunge.render import Protocol
from expunge.run import unlearn
from expunge.vocabulary import Vocabulary

CONCEPTS = ("stripes", "crescent")
PROTOCOL = Protocol(seeds=1, target_seeds=2, seed=999)
SHOWN = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA", "KID_base")


def parsed(text: str) -> list[object]:
    def value(word: str) -> object:
        for kind in (int, float):
            try:
                return kind(word)
            except ValueError:
                pass
        return word

    return [value(word) for word in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method")
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="SETTING=A,B,C")
    parser.add_argument("--concepts", nargs="*", default=list(CONCEPTS))
    parser.add_argument("--given", action="store_true", help="give the synonym too")
    arguments = parser.parse_args()
    names = [t.partition("=")[0] for t in arguments.tries]
    choices = [parsed(t.partition("=")[2]) for t in arguments.tries]
    canvas, vocabulary, trained = load("canvas"), Vocabulary.canvas(), {f for f in Training.__dataclass_fields__}
    find_method(arguments.method)
    print(f"{'concept':10} {'settings':50} " + " ".join(f"{m:>8}" for m in SHOWN) + "  change  drift seconds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for i, values in enumerate(itertools.product(*choices)):
            chosen = dict(zip(names, values, strict=True))
            training = {k: v for k, v in chosen.items() if k in trained}
            settings = {k: v for k, v in chosen.items() if k not in trained}
            for target in arguments.concepts:
                concept = Concept.find(target, vocabulary)
                if arguments.given:
                    concept = Concept.find(target, vocabulary, synonyms=concept.member.synonyms)
                out = Path(folder) / f"{i}-{target}"
                run = unlearn(canvas, concept, arguments.method, training=training or None, out=out, **settings)
                rows = evaluate(run, canvas, judge="main", protocol=PROTOCOL, store=Store.default())
                mine = {r.metric: r for r in rows if r.run != "base" and r.judge in ("main", "none")}
                base = {r.metric: r for r in rows if r.run == "base" and r.judge == "main"}
                if i == 0:
                    print(f"{target:10} {'untouched':50} " + " ".join(f"{base[m].value:8.3f}" for m in SHOWN), flush=True)
                cells = " ".join(f"{mine[m].value:8.3f}" for m in SHOWN)
                tail = f"{mine['weight_change'].value:7.3f} {mine['null_drift'].value:6.3f} {run.card['seconds']:7.1f}"
                print(f"{target:10} {' '.join(f'{k}={v}' for k, v in chosen.items()):50} {cells} {tail}", flush=True)


if __name__ == "__main__":
    main()
