"""What Supplant removes, spares and lets come back: `python benchmarks/flagship.py`.

Each line of the file is one measurement of one concept and seed: the run's cost, an evaluation, or one attack of flagship.toml on the run
or on the canvas's retrained control. What has a line is not measured again, and a killed run continues, so the command may be repeated.
`--first 3` makes the first three attacks alone, `--attacks LABEL` those of a label; `--control` attacks the retrained control instead.
"""

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
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
from expunge.evaluation.statistics import student_interval
from expunge.models.delta import swapped
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.training.session import Session

SETTINGS = Path(__file__).with_suffix(".toml")
FILE = Path(__file__).with_suffix(".jsonl")
METRICS = ("UA", "UA_syn", "IRA", "CRA", "NRA", "ORA", "OOD")
COSTS = ("seconds", "forwards", "backwards")
RETRAINED = "retrained"
DEFAULTS = {"tokens": 1, "noisy_from": None, "data": "base", "repeat": None, "whiten": None}
"""Settings of attacks that a line may leave out."""

TIMES: dict[str, float | None] = {"all times": None, "noisy times": 0.5}
"""`Inversion.noisy_from` of the two searches for a learned word."""

Line = dict[str, Any]


def attacked(session: Session, concept: Concept, delta: Mapping[str, Tensor], seed: int, settings: Mapping[str, Any]) -> list[Line]:
    """The readings of one attack: its strength, the images, those that show the concept, and what they show by the main judge."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key != "label"}
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


def table(lines: Sequence[Line]) -> str:
    """A row for each concept, of means over its seeds: what is gone and kept, and what is shown instead."""
    text = [f"| {' | '.join(['concept', 'seeds', *METRICS, 'shown instead', 's'])} |", f"|---|{'---:|' * (len(METRICS) + 1)}---|---:|"]
    for concept, of in _by_concept(line for line in lines if line["of"] != RETRAINED).items():
        shares = [line["shares"]["run"] for line in of if line["what"] == "evaluation"]
        plain = {line["seed"]: line["readings"][0] for line in of if line["what"] == "attack" and line["attack"]["name"] == "relearn"}
        seconds = [line["seconds"] for line in of if line["what"] == "run"]
        cells = [concept, str(len(seconds)), *(_mean([100 * each[m] for each in shares if m in each], 1) for m in METRICS)]
        text.append(f"| {' | '.join([*cells, _instead(list(plain.values())), _mean(seconds)])} |")
    return "\n".join(text) + "\n"


def attacks_table(lines: Sequence[Line], controls: Sequence[Line]) -> str:
    """A row for each attacker: what it finds in each concept's run, in brackets in the control, and the mean difference with an interval
    over concepts. Cells are means over seeds of the highest reading after the first; entries of one label are one attacker."""
    mine = [line for line in lines if line["of"] != RETRAINED and line["what"] == "attack"]
    known = [line for line in (*lines, *controls) if line["of"] == RETRAINED]
    concepts = list(_by_concept(mine))
    text = [f"| attacker | seeds | {' | '.join(concepts)} | difference |", f"|---|{'---:|' * (len(concepts) + 2)}"]
    for label in dict.fromkeys(line["attack"]["label"] for line in mine):
        of = _by_concept(line for line in mine if line["attack"]["label"] == label)
        found = {concept: _found(each, known) for concept, each in of.items()}
        seeds = sorted({line["seed"] for each in of.values() for line in each})
        paired = [[run - control for run, control in each if control is not None] for each in found.values()]
        differences = [fmean(each) for each in paired if each]
        cells = [_cell(found.get(concept, [])) for concept in concepts]
        text.append(f"| {' | '.join([label, str(len(seeds)), *cells, _interval(differences)])} |")
    return "\n".join(text) + "\n"


def times_table(lines: Sequence[Line], controls: Sequence[Line]) -> str:
    """The rows of learned words in that table, taken apart by the times at which the word is learned."""
    known = [line for line in (*lines, *controls) if line["of"] == RETRAINED]
    mine = [line for line in lines if line["of"] != RETRAINED and line["what"] == "attack" and line["attack"]["name"] == "inversion"]
    concepts = list(_by_concept(mine))
    text = [f"| {' | '.join(['attacker', 'learned at', *concepts])} |", f"|---|---|{'---:|' * len(concepts)}"]
    for label in dict.fromkeys(line["attack"]["label"] for line in mine):
        for times, noisy_from in TIMES.items():
            of = _by_concept(line for line in mine if (line["attack"]["label"], line["attack"].get("noisy_from")) == (label, noisy_from))
            cells = [_cell(_found(of.get(concept, []), known)) for concept in concepts]
            text.append(f"| {' | '.join([label, times, *cells])} |")
    return "\n".join(text) + "\n"


def _by_concept(lines: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["concept"], []).append(line)
    return found


def _found(lines: Sequence[Line], controls: Sequence[Line]) -> list[tuple[float, float | None]]:
    """What an attacker finds at most in a concept's run and in the control, in percent, for each seed."""
    pairs = []
    for seed in sorted({line["seed"] for line in lines}):
        of = [line for line in lines if line["seed"] == seed]
        theirs = [_control(controls, line) for line in of]
        control = max(_highest(readings) for readings in theirs if readings) if all(theirs) else None
        pairs.append((max(_highest(line["readings"]) for line in of), control))
    return pairs


def _cell(found: Sequence[tuple[float, float | None]]) -> str:
    controls = [control for _, control in found if control is not None]
    return _mean([run for run, _ in found]) + (f" ({_mean(controls)})" if found and len(controls) == len(found) else "")


def _mean(values: Sequence[float], digits: int = 0) -> str:
    return f"{fmean(values):.{digits}f}" if values else "–"


def _interval(differences: Sequence[float]) -> str:
    if len(differences) < 2:
        return "–"
    mean, low, high = student_interval(differences)
    return f"{mean:.0f} [{low:.0f}, {high:.0f}]"


def _instead(plain: Sequence[Mapping[str, Any]]) -> str:
    """What plain prompts show most, over the first readings of attacks."""
    seen = sum((Counter(reading["seen"]) for reading in plain), Counter[str]())
    return ", ".join(f"{label} {100 * count / seen.total():.0f} %" for label, count in seen.most_common(3)) or "–"


def _control(controls: Sequence[Line], line: Line) -> list[Line] | None:
    """The control's readings under the same attack, with the same seed and images, and at least as many steps."""
    attack = line["attack"]
    beside = ("steps", "pictures_of_a_reading", "label")
    limit = attack.get("steps") if attack["name"] in ("relearn", "inversion") else None
    asked = DEFAULTS | {name: value for name, value in attack.items() if limit is None or name not in beside}
    for known in controls:
        settings = DEFAULTS | known.get("attack", {})
        same = all(settings.get(name) == value for name, value in asked.items() if name not in ("label", "pictures_of_a_reading"))
        if not same or (known["concept"], known["seed"]) != (line["concept"], line["seed"]):
            continue
        if known["readings"][0]["n"] == attack["pictures_of_a_reading"] and (limit is None or settings["steps"] >= limit):
            return [r for r in known["readings"] if limit is None or r["strength"] <= limit]
    return None


def _highest(readings: Sequence[Line]) -> float:
    """The highest reading after the first, in percent."""
    return max(100 * _hits(r) / r["n"] for r in readings if r["strength"] > 0)


def _hits(reading: Line) -> int:
    hits = reading["hits"]
    return hits["main"] if isinstance(hits, dict) else hits


def asked(suite: Mapping[str, Any], given: argparse.Namespace) -> Iterator[Line]:
    """Every measurement: of a seed, concept by concept."""
    attacks = suite["attacks"][: given.first] if given.first is not None else suite["attacks"]
    attacks = [settings for settings in attacks if given.attacks is None or settings["label"] in given.attacks]
    kinds = [] if given.control else [{"what": "run"}, {"what": "evaluation"}]
    kinds += [{"what": "attack", "attack": settings} for settings in attacks]
    for seed in given.seeds:
        for concept in given.concepts or suite["concepts"]:
            for kind in kinds:
                yield {"of": RETRAINED if given.control else suite["method"], "concept": concept, "seed": seed, **kind}


def measure(session: Session, line: Line, suite: Mapping[str, Any], folder: Path) -> Line:
    """The measurement's numbers. The run is made or found in its folder."""
    vocabulary = Vocabulary.canvas()
    name, seed = line["concept"], line["seed"]
    told = Concept.find(name, vocabulary, synonyms=Concept.find(name, vocabulary).member.synonyms)
    if line["of"] == RETRAINED:
        run = Run(SHIPPED)
    else:
        run = unlearn(
            session.model, told, suite["method"], seed=seed, out=folder / f"{name}-{seed}", cache=session.cache, progress=Silent()
        )
    if line["what"] == "run":
        return {key: run.card[key] for key in COSTS if key in run.card}
    if line["what"] == "evaluation":
        protocol = Protocol(**suite["protocol"], seed=seed)
        rows = evaluate(run, session.model, judge="main", metrics=METRICS, protocol=protocol, cache=session.cache, progress=Silent())
        return {"shares": _shares(rows)}
    return {"readings": attacked(session, told, run.delta(session.model.fingerprint), seed, line["attack"])}


def _shares(rows: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.metric in METRICS:
            found.setdefault("base" if row.run == "base" else "run", {})[row.metric] = round(row.value, 4)
    return found


def cost(session: Session, method: str) -> tuple[float, float]:
    """MiB by which the peak of this process rises in a run of three steps on *ring*, whose images are in the cache or are made before; and
    seconds of processor time of a whole run, with all of its images."""
    concept = Concept.find("ring", Vocabulary.canvas(), synonyms="hoop")
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unlearn(session.model, concept, method, training={"steps": 3}, out=Path(folder) / "short", cache=session.cache, progress=Silent())
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        began = time.process_time()
        unlearn(session.model, concept, method, out=Path(folder) / "run", cache=Path(folder) / "cache", progress=Silent())
        return memory, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, default=FILE, metavar="FILE", help="JSON lines, a measurement each")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/flagship"))
    parser.add_argument("--concepts", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--first", type=int, metavar="N", help="the first N attacks alone")
    parser.add_argument("--attacks", nargs="*", metavar="LABEL", help="the attacks of these labels alone")
    parser.add_argument("--control", action="store_true", help="attack the canvas's retrained control")
    parser.add_argument("--cost", metavar="METHOD", help="print the memory and processor time of a method on ring, and end")
    given = parser.parse_args()
    suite = read_toml(SETTINGS)
    session = Session.open("canvas", cache=Store.default(), progress=Silent())
    if given.cost:
        print("{}: {:.0f} MiB, {:.0f} s".format(given.cost, *cost(session, given.cost)))
        return
    lines: list[Line] = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
    for line in asked(suite, given):
        if not any(all(done.get(key) == value for key, value in line.items()) for done in lines):
            lines.append(line | measure(session, line, suite, given.runs))
            write_atomically(given.keep, "".join(json.dumps(each) + "\n" for each in lines).encode())
            print(json.dumps(lines[-1]), flush=True)


if __name__ == "__main__":
    main()
