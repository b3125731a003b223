"""What Supplant removes, spares and lets come back: `python benchmarks/flagship.py --keep benchmarks/flagship.jsonl`.

Each line of the file is one measurement of one concept and seed: the run's cost, an evaluation, or one attack of flagship.toml on the run
or on the canvas's retrained control. What has a line is not measured again, and a killed run continues, so the command may be repeated.
`--first 3` makes the first three attacks alone, of every concept; `--control` attacks the retrained control instead.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.attacks import ATTACKS
from expunge.attacks.base import Victim
from expunge.canvas.control import SHIPPED
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.config import read_toml
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.judges import judge_images, load_judge
from expunge.evaluation.protocol import Protocol
from expunge.models.delta import swapped
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.training.session import Session

SETTINGS = Path(__file__).with_suffix(".toml")
METRICS = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA")
COSTS = ("seconds", "forwards", "backwards", "peak_memory")
RETRAINED = "retrained"

Line = dict[str, Any]


def attacked(session: Session, concept: Concept, delta: Mapping[str, Tensor], seed: int, settings: Mapping[str, Any]) -> list[Line]:
    """The readings of one attack: its strength, the images, those that show the concept, and what they show by the main judge."""
    given = dict(settings)
    attack = ATTACKS[given.pop("name")]
    pictures = given.pop("pictures_of_a_reading")
    found, judge = [], load_judge("main")
    for reading in attack(**given)(Victim(session, concept, delta, seed=seed, pictures=pictures, judge=judge)):
        model = session.model
        with swapped(model.network, reading.weights):
            latents = model.sample_latents(reading.cond, list(reading.noise_seeds), model.default_sampler, reading.start)
            seen = judge_images(judge, model.decode(latents), concept).seen[concept.kind]
        shown = Counter(seen)
        found.append({"strength": reading.strength, "n": pictures, "hits": shown[concept.member.name], "seen": dict(shown.most_common())})
    return found


def asked(table: Mapping[str, Any], given: argparse.Namespace) -> Iterator[Line]:
    """Every measurement in the order in which it is made: all of one kind before the next, so that a part is a part of every concept."""
    first = given.first if given.first is not None else len(table["attacks"])
    kinds = [] if given.control else [{"what": "run"}, {"what": "evaluation"}]
    kinds += [{"what": "attack", "attack": settings} for settings in table["attacks"][:first]]
    for concept in given.concepts or table["concepts"]:
        for seed in given.seeds:
            for kind in kinds:
                yield {"of": RETRAINED if given.control else table["method"], "concept": concept, "seed": seed, **kind}


def measure(session: Session, line: Line, table: Mapping[str, Any], folder: Path) -> Line:
    """The measurement's numbers. The run is made or found in its folder."""
    vocabulary = Vocabulary.canvas()
    name, seed = line["concept"], line["seed"]
    told = Concept.find(name, vocabulary, synonyms=Concept.find(name, vocabulary).member.synonyms)
    if line["of"] == RETRAINED:
        run = Run(SHIPPED)
    else:
        run = unlearn(
            session.model, told, table["method"], seed=seed, out=folder / f"{name}-{seed}", cache=session.cache, progress=Silent()
        )
    if line["what"] == "run":
        return {key: run.card[key] for key in COSTS if key in run.card}
    if line["what"] == "evaluation":
        protocol = Protocol(**table["protocol"], seed=seed)
        rows = evaluate(run, session.model, judge="main", metrics=METRICS, protocol=protocol, cache=session.cache, progress=Silent())
        return {"shares": _shares(rows)}
    return {"readings": attacked(session, told, run.delta(session.model.fingerprint), seed, line["attack"])}


def _shares(rows: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.metric in METRICS:
            found.setdefault("base" if row.run == "base" else "run", {})[row.metric] = round(row.value, 4)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, metavar="FILE", help="JSON lines, a measurement each")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/flagship"))
    parser.add_argument("--concepts", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--first", type=int, metavar="N", help="the first N attacks alone")
    parser.add_argument("--control", action="store_true", help="attack the canvas's retrained control")
    given = parser.parse_args()
    table = read_toml(SETTINGS)
    session = Session.open("canvas", cache=Store.default(), progress=Silent())
    lines: list[Line] = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
    for line in asked(table, given):
        if not any(all(done.get(key) == value for key, value in line.items()) for done in lines):
            lines.append(line | measure(session, line, table, given.runs))
            write_atomically(given.keep, "".join(json.dumps(each) + "\n" for each in lines).encode())
            print(json.dumps(lines[-1]), flush=True)


if __name__ == "__main__":
    main()
