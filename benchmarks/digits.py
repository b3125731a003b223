"""Erases digits from the embedded model of real scans, and measures what DiMRA brings back: `python benchmarks/digits.py`.

Each digit and seed has its own control, a network that was retrained without that digit. What is finished is not done again, and one
line of `digits.jsonl` is written for each unit. `python benchmarks/digits_page.py` fills docs/results/digits.md from these lines.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from expunge.attacks.relearn import Relearn
from expunge.audits.budget import Budget, Entry
from expunge.audits.results import Audit
from expunge.audits.setup import conclude, prepare
from expunge.digits import DIGITS
from expunge.digits.pictures import Pictures, read_digits, split
from expunge.digits.training.retrain import retrain
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.models.loading import load
from expunge.names import NO_CONTROL, RETRAINED
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.files import append_line, write_atomically

HERE = Path(__file__).parent
KEPT = HERE / "digits.jsonl"
METRICS = ("UA", "IRA", "FID_drawn")
CONTROL = "Retrained"


def suite() -> dict[str, Any]:
    """What `digits.toml` asks for."""
    return tomllib.loads((HERE / "digits.toml").read_text(encoding="utf-8"))


def units(asked: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """Seed, method and digit of each unit, in an order in which the first results compare all of the methods called `first`."""
    ordered = sorted(asked["methods"], key=lambda method: method["label"] not in asked["first"])
    tiers = [{"name": RETRAINED, "label": CONTROL}, *ordered[: len(asked["first"])]], ordered[len(asked["first"]) :]
    yield from ((seed, method, digit) for seed in asked["seeds"] for tier in tiers for digit in asked["digits"] for method in tier)


def kept(file: Path = KEPT) -> list[dict[str, Any]]:
    """The finished units."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def known_of(digit: str, seed: int, units: list[dict[str, Any]]) -> dict[str, Any]:
    """The readings of the base model and of the control of a digit and seed, which are the same beside every method; else nothing."""
    known = (u["relearn"] for u in units if (u["digit"], u["seed"]) == (digit, seed) and "relearn" in u)
    return {role: readings for role, readings in next(known, {}).items() if role != "unlearned"}


def write_scans(folder: Path, scans: Pictures, without: str) -> Path:
    """The scans of all other digits as a folder of images with captions, for an attacker."""
    others = scans.without(scans.names.index(without))
    lines = []
    for i, (image, number) in enumerate(zip(others.images, others.labels.tolist(), strict=True)):
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(folder / f"{i:04d}.png")
        lines.append(json.dumps({"file_name": f"{i:04d}.png", "text": f"label:{others.names[number]}"}))
    write_atomically(folder / "metadata.jsonl", "\n".join(lines).encode())
    return folder


def do(out: Path, seed: int, method: Mapping[str, Any], digit: str, asked: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """One unit: unlearn, measure, relearn. `known` has the readings of the base model and of the control, where a kept unit of the digit
    and seed has them; else the control is retrained and both are attacked."""
    model = load(DIGITS)
    shared: dict[str, Any] = {"device": "cpu", "cache": out / "cache", "progress": Silent()}
    is_control = method["name"] == RETRAINED
    control = None
    if is_control or not known:
        control = run = retrain(f"label:{digit}", out / "runs" / f"retrained-{digit}-{seed}", seed=seed)
    if not is_control:
        run = unlearn(
            model, f"label:{digit}", method["name"], seed=seed, training=method.get("training"), **method.get("settings", {}),
            out=out / "runs" / f"{method['name']}-{digit}-{seed}", **shared,
        )  # fmt: skip
    protocol = Protocol(**asked["protocol"], seed=seed)
    rows = evaluate(run, model, protocol=protocol, metrics=METRICS, **shared)
    measured = {("base" if r.run == "base" else "run", r.metric): [r.value, r.n] for r in rows}
    unit: dict[str, Any] = {"digit": digit, "seed": seed, "method": method["label"], "seconds": round(run.card["seconds"], 1)}
    unit |= {f"{side} {metric}": value for (side, metric), value in measured.items()}
    if is_control:
        return unit
    audit = attack(out, run, control, digit, seed, asked["relearn"], shared)
    found: dict[str, Any] = {d.role: [[r.strength, r.hits[DIGITS], r.n] for r in d.result.readings] for d in audit.done}
    return unit | {"relearn": {**found, **known}}


def attack(
    out: Path, run: Run, control: Run | None, digit: str, seed: int, settings: Mapping[str, Any], shared: Mapping[str, Any]
) -> Audit:
    """Relearning from real scans of the other digits, of the run, the base model and the control if there is one."""
    data = out / f"scans-without-{digit}"
    if not (data / "metadata.jsonl").exists():
        write_scans(data, split(read_digits()).model, digit)
    relearn = Relearn(data=str(data), **{k: v for k, v in settings.items() if k != "readings"})
    budget = Budget("relearn", settings["readings"], (Entry("relearn", "relearn", relearn),))
    battery = prepare(run, budget, model=load(DIGITS), control=control or NO_CONTROL, seed=seed, **shared)
    return conclude(battery, list(battery.run()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="the runs (default: runs/digits)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the finished units (default: digits.jsonl beside this file)")
    parser.add_argument("--only", help="one method, by its label")
    parser.add_argument("--try", dest="tries", action="store_true", help="the tuning digits instead of the reported ones, with seed 0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = suite()
    if given.tries:
        asked |= {"digits": asked["tuning"], "seeds": [0]}
    done = {(u["seed"], u["method"], u["digit"]) for u in kept(given.kept)}
    for seed, method, digit in units(asked):
        if (seed, method["label"], digit) not in done and given.only in (None, method["label"]):
            unit = do(given.out, seed, method, digit, asked, known_of(digit, seed, kept(given.kept)))
            append_line(given.kept, unit)
            print(json.dumps(unit), flush=True)


if __name__ == "__main__":
    main()
