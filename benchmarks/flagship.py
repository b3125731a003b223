"""What Supplant removes, spares and lets come back: `python benchmarks/flagship.py`.

Each line of the file is one measurement of one concept and seed: the run's cost, an evaluation, or one attack of flagship.toml on the run
or on the canvas's retrained control. What has a line is not measured again, and a killed run continues, so the command may be repeated.
`--first 3` makes the first three attacks alone, of every concept; `--control` attacks the retrained control instead.
"""

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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


def table(lines: Sequence[Line], controls: Sequence[Line]) -> str:
    """A line for each concept and seed: what is gone, kept, and seen at the highest reading of an attack, in brackets in the control."""
    attacks = _attacks(lines)
    head = ["concept", "seed", *METRICS, "shown instead", *map(_title, attacks), "s"]
    text = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(METRICS) + 1)}---|{'---:|' * (len(attacks) + 1)}"]
    mine = [line for line in lines if line["of"] != RETRAINED]
    for concept, seed in dict.fromkeys((line["concept"], line["seed"]) for line in mine):
        of = [line for line in mine if (line["concept"], line["seed"]) == (concept, seed)]
        shares: dict[str, float] = next((line["shares"]["run"] for line in of if line["what"] == "evaluation"), {})
        readings = {_key(line["attack"]): line["readings"] for line in of if line["what"] == "attack"}
        cells = [concept, str(seed), *(f"{100 * shares[m]:.1f}" if m in shares else "–" for m in METRICS)]
        cells += [_instead(next(iter(readings.values()))[0]) if readings else "–"]
        cells += [_against(readings.get(_key(a)), _control(controls, concept, seed, a)) for a in attacks]
        seconds = next((f"{line['seconds']:.0f}" for line in of if line["what"] == "run"), "–")
        text.append(f"| {' | '.join([*cells, seconds])} |")
    return "\n".join(text) + "\n"


def differences(lines: Sequence[Line], controls: Sequence[Line]) -> str:
    """What each attack finds at most in the run less what it finds in the control: the mean over concepts, of seeds in the mean first."""
    text = ["| attack | concepts | points |", "|---|---:|---:|"]
    for attack in _attacks(lines):
        of: dict[str, list[float]] = {}
        for line in lines:
            control = _control(controls, line["concept"], line["seed"], attack)
            if line["what"] == "attack" and _key(line["attack"]) == _key(attack) and control:
                of.setdefault(line["concept"], []).append(_highest(line["readings"]) - _highest(control))
        if len(of) > 1:
            mean, low, high = student_interval([fmean(values) for values in of.values()])
            text.append(f"| {_title(attack)} | {len(of)} | {mean:.0f} [{low:.0f}, {high:.0f}] |")
    return "\n".join(text) + "\n"


def _attacks(lines: Sequence[Line]) -> list[Line]:
    """The settings of each attack, in the order of the lines."""
    return list({_key(line["attack"]): line["attack"] for line in lines if line["what"] == "attack"}.values())


def _key(attack: Mapping[str, Any]) -> str:
    return json.dumps(attack, sort_keys=True)


def _title(attack: Mapping[str, Any]) -> str:
    """What tells an attack of flagship.toml from the others."""
    if attack["name"] == "inversion":
        return f"learned word, {attack.get('tokens', 1)} token{'s' * (attack.get('tokens', 1) > 1)}"
    where = {"full": "all weights", "xattn": "cross-attention"}[attack["variant"]]
    return f"relearning, {where}, {attack['lr']:.0e}{', drawings' * (attack.get('data') == 'retain')}".replace("e-0", "e-")


def _instead(reading: Mapping[str, Any]) -> str:
    """What plain prompts show most."""
    label, count = next(iter(reading["seen"].items()))
    return f"{label} {100 * count / reading['n']:.0f} %"


def _control(controls: Sequence[Line], concept: str, seed: int, attack: Mapping[str, Any]) -> list[Line] | None:
    """The control's readings under the same attack, with the same images, and at least as many steps."""
    asked = {name: value for name, value in attack.items() if name not in ("steps", "pictures_of_a_reading")}
    for line in controls:
        is_same = (line["of"], line["concept"], line["seed"]) == (RETRAINED, concept, seed)
        settings = {"tokens": 1, "data": "base"} | line.get("attack", {})
        same = is_same and all(settings.get(n) == v for n, v in ({"tokens": 1, "data": "base"} | asked).items())
        if (
            same
            and line["readings"][0]["n"] == attack["pictures_of_a_reading"]
            and settings.get("steps", 1000) >= attack.get("steps", 1000)
        ):
            return [r for r in line["readings"] if r["strength"] <= attack.get("steps", 1000)]
    return None


def _against(readings: Sequence[Line] | None, control: Sequence[Line] | None) -> str:
    if readings is None:
        return "–"
    return f"{_highest(readings):.0f} ({_highest(control):.0f})" if control else f"{_highest(readings):.0f}"


def _highest(readings: Sequence[Line]) -> float:
    """The highest reading after the first, in percent."""
    return max(100 * _hits(r) / r["n"] for r in readings if r["strength"] > 0)


def _hits(reading: Line) -> int:
    hits = reading["hits"]
    return hits["main"] if isinstance(hits, dict) else hits


def asked(suite: Mapping[str, Any], given: argparse.Namespace) -> Iterator[Line]:
    """Every measurement, concept by concept."""
    first = given.first if given.first is not None else len(suite["attacks"])
    kinds = [] if given.control else [{"what": "run"}, {"what": "evaluation"}]
    kinds += [{"what": "attack", "attack": settings} for settings in suite["attacks"][:first]]
    for concept in given.concepts or suite["concepts"]:
        for seed in given.seeds:
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


def memory(session: Session, method: str) -> float:
    """MiB by which the peak of this process rises in a run of three steps on *ring*; its images are in the cache, or are made before."""
    concept = Concept.find("ring", Vocabulary.canvas(), synonyms="hoop")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unlearn(session.model, concept, method, training={"steps": 3}, out=out, cache=session.cache, progress=Silent())
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, default=FILE, metavar="FILE", help="JSON lines, a measurement each")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/flagship"))
    parser.add_argument("--concepts", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--first", type=int, metavar="N", help="the first N attacks alone")
    parser.add_argument("--control", action="store_true", help="attack the canvas's retrained control")
    parser.add_argument("--memory", metavar="METHOD", help="print the memory of a short run of a method on ring, and end")
    given = parser.parse_args()
    suite = read_toml(SETTINGS)
    session = Session.open("canvas", cache=Store.default(), progress=Silent())
    if given.memory:
        print(f"{given.memory}: {memory(session, given.memory):.0f} MiB")
        return
    lines: list[Line] = [json.loads(text) for text in given.keep.read_text().splitlines()] if given.keep.exists() else []
    for line in asked(suite, given):
        if not any(all(done.get(key) == value for key, value in line.items()) for done in lines):
            lines.append(line | measure(session, line, suite, given.runs))
            write_atomically(given.keep, "".join(json.dumps(each) + "\n" for each in lines).encode())
            print(json.dumps(lines[-1]), flush=True)


if __name__ == "__main__":
    main()
