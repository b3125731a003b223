"""Do one unit of work: unlearn into its folder, and measure and attack what is missing there. An interrupted unit is resumed.

A unit is determined by its JSON and its results are the files in its folder, so any process that sees the folder can do it.
"""

import ctypes
import gc
import json
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import torch

from expunge import config
from expunge.bench.identity import attacked_as, budget_of, control_of, measured_as
from expunge.bench.results import Outcome
from expunge.bench.suite import Unit
from expunge.concepts.tables import concept_from, target_of
from expunge.errors import ExpungeError
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.judges import judges_for
from expunge.evaluation.judges.calibrated import on_base_model
from expunge.evaluation.metrics.listed import ON
from expunge.evaluation.networked import Networks
from expunge.evaluation.prompt_lists import PromptList, measure_list
from expunge.evaluation.protocol import Protocol
from expunge.evaluation.results import Row
from expunge.evaluation.settings import Settings
from expunge.models.base import DiffusionModel
from expunge.models.loading import load as load_model
from expunge.models.sampling import Sampler
from expunge.names import NO_CONTROL, RETRAINED
from expunge.progress import Silent
from expunge.runs.plan import Plan, make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import carry_out
from expunge.storage.cache import Store
from expunge.storage.files import write_json, write_lines
from expunge.storage.lock import taken
from expunge.training.session import Session

RESULT = "bench.json"
"""The file of a unit's measurements and their protocol. The other files in the folder are those of any run."""


@dataclass(frozen=True)
class Place:
    """Where units are done."""

    out: Path
    """The suite's folder: `runs/<id>` for each unit, `failures/<id>.json` for the last failure of each."""
    store: Path
    """The cache of images and base-model predictions."""
    device: str = "cpu"

    def folder(self, unit: Unit) -> Path:
        """The run folder of a unit."""
        return self.out / "runs" / unit.id

    def failure(self, unit: Unit) -> Path:
        """The file that records a unit's failure."""
        return self.out / "failures" / f"{unit.id}.json"

    def describe(self, unit: Unit) -> str:
        """A unit and its place as JSON text."""
        return json.dumps({"out": str(self.out.resolve()), "store": str(self.store), "device": self.device, "unit": unit.to_json()})


def missing(unit: Unit, folder: Path) -> list[str]:
    """The metrics of a unit that are not computed yet, or were computed with another protocol or judge."""
    wanted = unit.wanted
    found = read_result(folder)
    return [m for m in wanted if m not in found.get("metrics", ())] if found.get("measured_as") == measured_as(unit) else wanted


def is_attacked(unit: Unit, folder: Path) -> bool:
    """Whether all attacks of the suite are done on the unit, or there are none."""
    return unit.audit is None or read_result(folder).get("attacked_as") == attacked_as(unit)


def is_done(unit: Unit, folder: Path) -> bool:
    """Whether nothing is missing."""
    return not missing(unit, folder) and is_attacked(unit, folder)


def read_result(folder: Path) -> dict[str, Any]:
    """The content of a unit's `bench.json`; empty if there is none."""
    try:
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def work(description: str) -> str:
    """Do a unit that `Place.describe` described and return its outcome as JSON. Exceptions are recorded, not raised."""
    table = json.loads(description)
    unit, place = Unit.from_json(table["unit"]), Place(Path(table["out"]), Path(table["store"]), table["device"])
    try:
        with taken(place.out / "locks" / unit.id) as mine:
            if mine:
                run_unit(unit, place)
    except Exception as error:
        return json.dumps(asdict(record_failure(unit, place, error)))
    if not mine:
        return json.dumps(asdict(Outcome(unit.id, unit.name, "taken")))
    place.failure(unit).unlink(missing_ok=True)
    return json.dumps(asdict(Outcome(unit.id, unit.name, "done")))


def record_failure(unit: Unit, place: Place, error: Exception) -> Outcome:
    """Record a failure in one line, with the traceback of unexpected errors."""
    line = " ".join(str(error).split()) or "no message"
    line = line if isinstance(error, ExpungeError) else f"{type(error).__name__}: {line}"
    trace = None if isinstance(error, ExpungeError) else "".join(traceback.format_exception(error))
    record = {"unit": unit.name, "error": line, "traceback": trace}
    write_json(place.failure(unit), record)
    return Outcome(unit.id, unit.name, "failed", line)


def run_unit(unit: Unit, place: Place) -> None:
    """Unlearn, measure and attack, each from where it was interrupted."""
    folder = place.folder(unit)
    if is_done(unit, folder):
        return
    session = session_of(unit, place)
    held = _reset_peak_memory(session.model.device)
    before = read_result(folder)
    run = _retrain(unit, folder, place) if unit.method == RETRAINED else carry_out(plan_of(unit, session.model), session, folder)
    if not before:
        memory = None if held is None else max(0, run.card["peak_memory_bytes"] - held)
        before = {"memory_bytes": memory}
        _write(folder, before)
    if missing(unit, folder):
        _measure(unit, run, session, before)
    if not is_attacked(unit, folder):
        _attack(unit, run, session)


def _retrain(unit: Unit, folder: Path, place: Place) -> Run:
    from expunge.canvas.training.retrain import Retraining, retrain

    return retrain(concept_from(unit.concept), folder, seed=unit.seed, training=Retraining(**unit.training), device=place.device)


def plan_of(unit: Unit, model: DiffusionModel) -> Plan:
    """The plan of a unit's run."""
    concept = concept_from(unit.concept)
    training = unit.training or None
    return make_plan(model, concept, unit.method, training=training, seed=unit.seed, dtype=unit.dtype, before=unit.before, **unit.settings)


def sampler_of(unit: Unit, model: DiffusionModel) -> Sampler:
    """The sampler of a unit's images."""
    return config.build(Sampler, config.settings(model.default_sampler) | dict(unit.sampler), "sampler")


def session_of(unit: Unit, place: Place) -> Session:
    """The session of a unit. It is silent, since only whole units are shown."""
    return Session(loaded_once(unit.model, place.device, unit.dtype), Store(place.store), Silent())


@lru_cache(maxsize=1)
def loaded_once(name: str, device: str, dtype: str) -> DiffusionModel:
    """The model, cached for the units of a process."""
    return load_model(name, device, dtype)


def _measure(unit: Unit, run: Run, session: Session, before: dict[str, Any]) -> None:
    asked = missing(unit, run.folder)
    protocol, sampler = Protocol(**unit.protocol), sampler_of(unit, session.model)
    rows: list[Row] = []
    if plain := [m for m in asked if ON not in m]:
        rows = evaluate(
            run,
            session.model,
            judge=unit.judge,
            protocol=protocol,
            sampler=sampler,
            metrics=plain,
            features=unit.features,
            real=unit.real,
            cache=session.cache,
            progress=session.progress,
        )
    listed = [one for one in unit.prompt_lists if not set(one.results).isdisjoint(asked)]
    rows += [row for one in listed for row in _measure_list(unit, run, session, one, Settings(session, (), protocol, sampler, None))]
    as_now = before.get("measured_as") == measured_as(unit)
    kept = [Row(**r) for r in before.get("rows", ())] if as_now else []
    merged = list({(r.run, r.concept, r.metric, r.probe, r.attack, r.judge): r for r in (*kept, *rows)}.values())
    if plain:
        # `evaluate` wrote only the metrics of this call. The report reads the run's own rows, so all rows are written there.
        write_lines(run.folder / "evaluation" / "rows.jsonl", (asdict(r) for r in merged if ON not in r.metric))
    known = [*(before.get("metrics", ()) if as_now else ()), *asked]
    of = {"label": unit.label, "concept": target_of(unit.concept), "seed": unit.seed}
    judges = [(j.name, j.weights) for j in judges_for(unit.judge, session.model, *run.concept().parts)]
    measured = {"of": of, "measured_as": measured_as(unit), "judges": judges, "metrics": known, "rows": [asdict(r) for r in merged]}
    _write(run.folder, before | measured)


def _measure_list(unit: Unit, run: Run, session: Session, listed: PromptList, settings: Settings) -> list[Row]:
    """The rows of each of the unit's concepts that a list of prompts is for."""
    concepts = [c for c in run.concept().parts if not listed.concepts or c.target in listed.concepts]
    delta = run.delta(session.model.fingerprint)
    networks = Networks.open(unit.features, listed.pictures or None, listed.metrics_of_networks, session.model.device)
    rows = []
    for concept in concepts:
        judges = on_base_model(judges_for(unit.judge, session.model, concept), settings.base_images)
        rows += measure_list(run, replace(settings, judges=judges, networks=networks), delta, concept, listed)
    return rows


def _attack(unit: Unit, run: Run, session: Session) -> None:
    """Write an audit to the run's folder, as `expunge audit` does. Results of controls are cached for all units.

    Raises:
        ExpungeError: attacks failed; the results of the others are kept.
    """
    from expunge.audits.setup import conclude, prepare

    assert unit.audit is not None
    battery = prepare(
        run,
        budget_of(unit),
        model=session.model,
        control=control_of(unit) or NO_CONTROL,
        judge=unit.judge,
        seed=unit.seed,
        sampler=sampler_of(unit, session.model),
        cache=session.cache,
        progress=session.progress,
    )
    made = conclude(battery, list(battery.run()))
    if failed := [f for f in made.failures if f.applicable]:
        message = " ".join(f"{f.label} on {f.role}, {f.concept}: {f.error}" for f in failed)
        raise ExpungeError(message, rule="attacks-failed", value=[f.label for f in failed], hint="Try to run the suite again.")
    _write(run.folder, read_result(run.folder) | {"attacked_as": attacked_as(unit), "findings": made.table})


def _write(folder: Path, result: dict[str, Any]) -> None:
    write_json(folder / RESULT, result)


def _reset_peak_memory(device: torch.device) -> int | None:
    """Reset the peak of used memory and return the bytes used now; None if the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            # Return freed memory to the system. A run that reused it would seem to need none.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            return psutil.Process().memory_info().rss
    return None
