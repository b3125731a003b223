"""Prepares and concludes audits: resolves names and reports mistakes before any work begins, and collects results at the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from expunge.attacks import ATTACKS
from expunge.audits.budget import Budget, read_budget
from expunge.audits.cells import Event, ResultStore
from expunge.audits.command import command_of
from expunge.audits.results import Audit, CellResult, Failure
from expunge.audits.runner import Battery
from expunge.audits.sides import Side
from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.judge_settings import JudgeSpec
from expunge.evaluation.judges import Images, Judge, judges_for, on_base_model
from expunge.evaluation.judges.calibrated import Draw
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rendering import RENDER_BATCH, render
from expunge.models.base import DiffusionModel
from expunge.models.defaults import defaults_of
from expunge.models.loading import Model
from expunge.models.sampling import Sampler
from expunge.names import NO_CONTROL, RETRAINED
from expunge.progress import Progress
from expunge.runs.run import Run
from expunge.storage.cache import Store
from expunge.training.batch_size import RenderBatch
from expunge.training.renderer import Renderer
from expunge.training.session import Session


def prepare(
    run: Run | str | Path,
    budget: str | Path | Budget = "quick",
    *,
    model: Model | None = None,
    control: Run | str | Path | None = None,
    attacks: Sequence[str] = (),
    auxiliary: str | Path | None = None,
    judge: JudgeSpec | None = None,
    seed: int = 0,
    sampler: Sampler | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: RenderBatch = None,
    allow_code: bool = False,
) -> Battery:
    """Prepare an audit. The arguments are those of `expunge.audit`.

    Raises:
        ExpungeError: the run is not finished or has another base model; the control is no control for the concepts; a budget or attack is
            unknown; there is no judge; the budget's file names code outside the package, without `allow_code`.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    plan = budget if isinstance(budget, Budget) else read_budget(budget, allow_code)
    plan = plan.only(attacks) if attacks else plan
    concepts = run.concept().parts
    plan = plan.beside(str(auxiliary)) if auxiliary else plan
    plan.refuse_naming(concepts)
    card = run.card
    against = control_for(control, str(card["model"]["name"]), concepts)
    session = Session.open(
        model or card["model"]["name"], device=device, dtype=card["dtype"], cache=cache, progress=progress, render_batch=render_batch
    )
    loaded = session.model
    plan.refuse_unread(loaded)
    sides = [Side("unlearned", card, run.delta(loaded.fingerprint), run.folder), Side("base", None, {})]
    if against is not None:
        delta = against.delta(loaded.fingerprint)
        sides.append(Side("retrained", against.card, delta, against.folder, _list_absent(against)))
    kept = ResultStore(Path(out) if out else run.folder / plan.folder_name(seed), session.cache)
    sampler = sampler or loaded.default_sampler
    loading = partial(_load_judges, judge, run=run.folder, draw=partial(_base_images, session, sampler))
    judges = {c.target: loading(loaded, c) for c in concepts}
    recipe = {
        "run": _full(run.folder), "budget": plan.table, "name": plan.name, "model": loaded.name, "judge": judge, "seed": seed,
        "control": _full(against.folder) if against else NO_CONTROL, "sampler": asdict(sampler), "out": _full(kept.folder),
        "cache": _full(session.cache.root), "render_batch": render_batch, "allow_code": allow_code,
    }  # fmt: skip
    return Battery(session, plan, tuple(sides), concepts, judges, seed, sampler, kept, recipe)


def _full(folder: Path) -> str:
    return str(folder.resolve())


def conclude(battery: Battery, events: Iterable[Event] = ()) -> Audit:
    """Collect the results of a battery in an audit, and write its files. The errors of cells are in `events`."""
    done = [
        CellResult(c.entry.label, c.side.role, c.side.run, c.side.method, result)
        for c in battery.cells
        if (result := battery.kept.take(c.id))
    ]
    errors = {e.cell: e for e in events if e.error}
    failures = [
        Failure(c.entry.label, c.side.role, c.concept.target, errors[c.name].error, errors[c.name].applicable)
        for c in battery.cells
        if c.name in errors
    ]
    cards = {s.role: s.card for s in battery.sides}
    assert cards["unlearned"] is not None
    audit = Audit(
        folder=battery.kept.folder,
        card=cards["unlearned"],
        control=cards.get("retrained"),
        budget=battery.budget,
        seed=battery.seed,
        judges=tuple(j.name for j in battery.judges[battery.concepts[0].target]),
        sampler=asdict(battery.sampler) | {"scheduler": battery.model.scheduler_name},
        chances={c.target: battery.judges[c.target][0].chance(c) for c in battery.concepts},
        done=tuple(done),
        sources={s.role: s.folder for s in battery.sides if s.folder},
        failures=tuple(failures),
        untried=tuple(name for name in ATTACKS if name not in {e.name for e in battery.budget.entries}),
        model=battery.model.name,
    )
    audit = replace(audit, command=command_of(audit, battery.budget))
    audit.write()
    return audit


def control_for(control: Run | str | Path | None, model: str, concepts: Sequence[Concept]) -> Run | None:
    """The control of an audit of `model`: a run that was trained without at least one of the concepts, or None.

    Args:
        control: A run or its folder; "none" for no control; None for the one of the canvas, if it was trained without any of these.
        model: The name of the base model.
        concepts: The removed concepts.

    Raises:
        ExpungeError: the run is no control for these concepts.
    """
    if control == NO_CONTROL:
        return None
    if control is not None:
        given = control if isinstance(control, Run) else Run(Path(control))
        refuse_control(given, concepts)
        return given
    shipped = defaults_of(model).control
    return Run(shipped) if shipped and _is_control(Run(shipped), concepts) else None


def refuse_control(control: Run, audited: Sequence[Concept]) -> None:
    """Raise an error if a run is no control for these concepts.

    Raises:
        ExpungeError: rule "not-retrained", the run was not trained without a concept; rule "control-of-others", it was trained without
            other concepts.
    """
    if control.card["method"] != RETRAINED:
        raise ExpungeError(
            f"{control.folder} is no control: it was made by {control.card['method']}, not by training without the concept.",
            rule="not-retrained",
            value=control.card["method"],
            hint="Try a run of `python -m expunge.canvas.training.retrain --target WORDS`.",
        )
    if not _is_control(control, audited):
        absent = control.concept().parts
        without, unlearned = (" and ".join(c.target for c in concepts) for concepts in (absent, audited))
        raise ExpungeError(
            f"{control.folder} was trained without {without}, but the audit is of {unlearned}.",
            rule="control-of-others",
            value=without,
            hint=f"Try a control that was trained without {unlearned}, or --control none.",
        )


def _list_absent(control: Run) -> frozenset[tuple[str, str]]:
    """The identities of the concepts without which a control was trained."""
    return frozenset(c.identity for c in control.concept().parts)


def _is_control(control: Run, audited: Sequence[Concept]) -> bool:
    """Whether a control was trained without at least one of the concepts."""
    return not _list_absent(control).isdisjoint(c.identity for c in audited)


def _base_images(session: Session, sampler: Sampler, shots: Sequence[Shot]) -> Iterator[Images]:
    """The base model's images of shots that calibrate judges, in chunks."""
    images = render(session, shots, sampler, session.model.fingerprint, "images that calibrate the judge")
    return images.chunks(Renderer(session, RENDER_BATCH).batch)


def _load_judges(judge: JudgeSpec | None, model: DiffusionModel, concept: Concept, run: Path, draw: Draw) -> tuple[Judge, ...]:
    if not (found := judges_for(judge, model, concept)):
        raise ExpungeError(
            f"No judge knows {concept.target!r}: {model.name} has none of its own, and an audit needs one.",
            rule="missing-judge",
            value=model.name,
            hint=f"Try --judge with the folder or id of a transformers image classifier or of CLIP (zero-shot), or nudenet for nudity; "
            f"`expunge meter {run}` needs none.",
        )
    return on_base_model(found, draw)
