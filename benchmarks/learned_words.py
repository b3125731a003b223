"""Which methods withstand a learned word at all times, and which at noisy times: `python benchmarks/learned_words.py`.

Each line is one method on one concept, attacked by `inversion` with both settings of `noisy_from`. What has a line is not measured again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claims import SUITES
from flagship import RETRAINED, TIMES, attacked

from expunge.bench.config import read_suite
from expunge.bench.runner import plan_of
from expunge.canvas.control import SHIPPED
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import carry_out
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.training.session import Session

FILE = Path(__file__).with_suffix(".jsonl")
CONCEPTS = ("ring", "neon")
METHODS = ("SalUn", "SalUn, all weights", "MiM-MU, whiten 0", "ESD, the paper's form", RETRAINED)
"""Units of the suite canvas in which a word that was learned at all times found least (docs/lab/attacks.md), and the control."""
STEPS, PICTURES = 100, 16


def measured(session: Session, label: str, name: str, runs: Path) -> dict[str, Any]:
    """The images, and how many show the concept at each reading of each attack."""
    vocabulary = Vocabulary.canvas()
    told = Concept.find(name, vocabulary, synonyms=Concept.find(name, vocabulary).member.synonyms)
    if label == RETRAINED:
        run = Run(SHIPPED)
    else:
        [unit] = (u for u in read_suite(SUITES["canvas"]).units if u.name == f"{label}/{name}/0")
        run = carry_out(plan_of(unit, session.model), session, runs / unit.id)
    delta, found = run.delta(session.model.fingerprint), {}
    for times, noisy_from in TIMES.items():
        settings = {"name": "inversion", "steps": STEPS, "noisy_from": noisy_from, "pictures_of_a_reading": PICTURES}
        found[times] = [[reading["strength"], reading["hits"]] for reading in attacked(session, told, delta, 0, settings)]
    return {"of": label, "concept": name, "n": PICTURES, "found": found}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """A row for each method: of each concept, plain prompts, then the highest reading after them at all times and at noisy times."""
    concepts = list(dict.fromkeys(line["concept"] for line in lines))
    head = [f"*{concept}*, {what}" for concept in concepts for what in ("plain", *TIMES)]
    text = [f"| {' | '.join(['', *head])} |", f"|---|{'---:|' * len(head)}"]
    for label in dict.fromkeys(line["of"] for line in lines):
        cells = []
        for concept in concepts:
            found = next((line["found"] for line in lines if (line["of"], line["concept"]) == (label, concept)), None)
            first = [str(found["all times"][0][1])] if found else ["–"]
            cells += first + [str(max(hits for _, hits in found[times][1:])) if found else "–" for times in TIMES]
        text.append(f"| {' | '.join([label, *cells])} |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, default=FILE, metavar="FILE", help="JSON lines, a method and concept each")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/learned-words"))
    given = parser.parse_args()
    session = Session.open("canvas", cache=Store.default(), progress=Silent())
    lines = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
    for name in CONCEPTS:
        for label in METHODS:
            if not any((line["of"], line["concept"]) == (label, name) for line in lines):
                lines.append(measured(session, label, name, given.runs))
                write_atomically(given.keep, "".join(json.dumps(line) + "\n" for line in lines).encode())
    print(table(lines))


if __name__ == "__main__":
    main()
