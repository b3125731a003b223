"""Unlearning: carries out a plan into a run's folder, or goes on with it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import config
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Origin, Subject, Together
from expunge.concepts.tables import slug
from expunge.errors import ExpungeError
from expunge.methods.base import Method, Objective, Training
from expunge.methods.config import Before
from expunge.models.delta import save_delta, swapped
from expunge.models.loading import Model
from expunge.models.start_token import start_readers
from expunge.names import dashed
from expunge.progress import Progress, Silent
from expunge.runs.acceptance import fix_criterion
from expunge.runs.card import described, forget_peak, is_done, peak_memory, write_card
from expunge.runs.plan import Plan, make_plan
from expunge.runs.run import Run
from expunge.runs.trackers import find_trackers, tracked
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically, write_lines
from expunge.storage.hashing import seed_of
from expunge.training.batch_size import RenderBatch
from expunge.training.batches import Batches, gather
from expunge.training.checkpoint import remove_checkpoint
from expunge.training.counters import Spent, counted
from expunge.training.distributed import Processes, half_on_cpu, refuse_uneven, state_of_its_own
from expunge.training.edit_prompts import edit_prompts, edited
from expunge.training.loop import Trainer, refuse_recomputing
from expunge.training.session import Session
from expunge.training.state import TrainState
from expunge.training.stopping import Check, StoppingRule


def unlearn(
    model: Model,
    concept: str | Subject | Sequence[str | Concept],
    method: str | Method = "mim-mu",
    *,
    together: Together = "joint",
    reference: Origin = "original",
    training: Training | Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    stop: StoppingRule | None = None,
    before: Before | Sequence[Before] = (),
    device: str = "auto",
    dtype: str | None = None,
    quantize: str | None = None,
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: RenderBatch = None,
    accept: str | None = None,
    track: str | Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Removes a concept from a model and writes what changed.

    Args:
        model: "canvas" (the embedded one), a diffusers folder, a hub id, or a pipeline in memory, which is left as it was,
            and where it was.
        concept: a name ("Van Gogh style"), looked up in the canvas's words or in the general vocabulary, or a `Concept`. Or a list
            of either: several concepts that one run removes.
        method: a registered name with `settings`, or a method made beforehand.
        together: how several concepts are removed: "joint", every batch holds points of all of them; "sequential", one after
            another in stages that lie in the run's folder, each going on where the one before ended.
        reference: what a later stage learns from: the "original" model, or what the "previous" stage left. The former does not let
            the stages' errors add up; the latter is what several requests over time come to, when the original is gone.
        training: other than the method's own defaults, whole or single settings.
        seed: of images, noise and batches. Another seed is another run.
        out: the run's folder; default `runs/<id>`. A finished run of the same id is returned as it is, a killed one goes on.
        stop: a rule that may end the run before its last step, such as `expunge.Gone(every=20)`; a part of what makes a run. The
            card then says so in `steps_done`.
        before: other methods that remove the concept first, each going on from what the one before left, all learning from the
            base model: names, methods, or tables `{"method": {"name": ..., ...}, "training": {...}}`.
        device: of what is loaded; "auto" takes the fastest one there is. A pipeline in memory stays where it is.
        dtype: "fp32", "bf16" or "fp16", of what is loaded; default fp32, and for a pipeline in memory the one that it has.
        quantize: "nf4" or "int8": the network's linear layers are stored in 4 or 8 bits while a low-rank scope, such as
            `variant="xattn-lora"`, is trained. Less memory, and predictions that are less exact; nf4 saves most. The result belongs
            to the full-precision model. Needs the extra `quantize`. A part of what makes a run.
        cache: where images and predictions of the base model are kept for other runs; default `$EXPUNGE_CACHE`, else `~/.cache/expunge`.
        progress: shows how far the run is on standard error; default `expunge.progress.Progress()`.
            `expunge.progress.Silent()` shows nothing.
        render_batch: images that are sampled at once; default 32 on a CPU and for embedded models, else "auto": the number with
            which the device is fastest, measured once and kept in the cache. Larger needs more memory.
        accept: the acceptance criterion, such as "UA>=0.98, NRA>=-0.02, relearn<=control+0.05", which is written into the folder before
            the run begins. It is no part of what makes a run.
        track: experiment trackers: "tensorboard", "wandb", "mlflow", or several. Each gets the configuration once, and the loss, its
            terms, the gradient's norm and the learning rate of each step. Choose one to watch a long run or to compare many. A closed
            form, which has no steps, logs nothing. It is no part of what makes a run.

    Returns:
        The run. `expunge.load(model, run)` gives the changed pipeline, `expunge.evaluate(run)` measures it.

    Raises:
        ExpungeError: any bad input; a folder of another run; nothing changed; a loss that is not finite; a tracker that is not installed
            or cannot start.
    """
    trackers = find_trackers(track)
    session = Session.open(
        model, device=device, dtype=dtype, quantization=quantize, cache=cache, progress=progress, render_batch=render_batch
    )
    plan = make_plan(
        session.model, concept, method, training=training, seed=seed, dtype=dtype or session.model.precision, stop=stop,
        together=together, reference=reference, before=before, **settings,
    )  # fmt: skip
    return carry_out(plan, replace(session, trackers=trackers), out, accept)


def carry_out(plan: Plan, session: Session, out: str | Path | None = None, accept: str | None = None) -> Run:
    """Runs a plan into its folder, or continues it. Of several processes the main one writes, and the others wait for it."""
    folder = Path(out) if out else Path("runs") / plan.id
    with state_of_its_own():
        processes = Processes.launched(session.model.device)
        if accept is not None and processes.is_main:
            fix_criterion(folder, accept)
        shared = replace(session, distributed=processes, progress=session.progress if processes.is_main else Silent())
        return _carry_out(plan, shared, folder, {})


def _carry_out(plan: Plan, session: Session, folder: Path, start: Mapping[str, Tensor]) -> Run:
    """The same of a run or one of its stages, which begins with the weights `start`."""
    processes = session.distributed
    if not processes.agree(is_done(folder, plan.id, session.model, plan.tables)):
        check = _prepare(plan, session)
        with processes.alone_in(folder):
            if not processes.agree(is_done(folder, plan.id, session.model)):  # another process may have finished it meanwhile
                if plan.stages:
                    _in_stages(plan, session, folder)
                else:
                    _in_one(plan, session, folder, start, check)
            processes.wait()
    return Run(folder)


def _prepare(plan: Plan, session: Session) -> Check | None:
    """Refuses what cannot be trained and starts the stopping rule, before anything is written."""
    for stage in plan.stages or (plan,):
        if isinstance(stage.method, Objective) and stage.training:
            refuse_recomputing(stage.method, stage.training)
            if stage.method.fixes_start:
                start_readers(session.model)
            refuse_uneven(stage.training, session.distributed.count)
            if plan.dtype == "fp16" and session.model.device.type == "cpu":
                raise half_on_cpu()
    return plan.stop.start(plan.referred(session.model), plan.concept) if plan.stop and not plan.stages else None


def _in_one(plan: Plan, session: Session, folder: Path, start: Mapping[str, Tensor], check: Check | None) -> None:
    """Carries out a plan of one stage."""
    session, spent, processes = replace(session, model=plan.referred(session.model)), Spent(), session.distributed
    model = session.model
    card = described(plan, model)
    if processes.is_main:
        write_card(folder, card | {"status": "running"})  # first: a run killed after it is known as its own
        write_atomically(folder / "config.toml", config.to_toml(plan.tables).encode())
    forget_peak(model.device)

    # Each stage has factors of its own: from the same seed, those of all stages would add up in the same few directions.
    seed = seed_of(plan.seed, "stage", plan.start.request) if plan.start else plan.seed
    from_start = plan.start is not None and plan.start.reference == "previous"
    recomputes = plan.training is not None and plan.training.gradient_checkpointing
    with counted(model.network) as spent.forwards, model.as_trained(recomputes):
        # Images come first, from the network as it was loaded: trained tensors are kept in float32, which would give other images.
        batches = _gathered(plan, session, start if from_start else {})
        state = TrainState(model, plan.method.scope, seed, plan.training.ema if plan.training else 0.0, start, from_start)
        card |= {"trainable": sum(p.numel() for p in state.trained.values())}
        card |= {"total": model.numbers}
        try:
            if isinstance(plan.method, Objective):
                assert batches is not None
                assert plan.training is not None
                trainer = Trainer(session, plan.method, plan.training, batches, state, folder, spent, check)
                card |= _train(trainer, session, folder, card)
            else:
                with torch.no_grad():
                    read = edit_prompts(plan.concept, model, state.trained.keys(), plan.method.prompts)
                    state.load(edited(plan.method, state.trained, read))
                card |= {"forwards": 0, "backwards": 0}
            delta = state.delta()
            card["relative_change"] = state.relative_change()
            changed = state.change_from_start()
        finally:
            state.release()
    if not math.isfinite(changed):
        raise ExpungeError(
            f"The weights of {folder} are not finite at the end of the run.",
            rule="weights-not-finite",
            value=changed,
            hint="Try a lower --lr, or fp32.",
        )
    if changed == 0:
        raise ExpungeError(
            f"The run in {folder} changed none of {card['trainable']} weights.",
            rule="nothing-changed",
            value=str(folder),
            hint="Try a larger --lr or more --steps.",
        )
    if processes.is_main:
        save_delta(folder / "delta.safetensors", delta, plan.fingerprint)
        card |= {"processes": processes.count, "seconds": round(spent.seconds, 2), "peak_memory_bytes": peak_memory(model.device)}
        write_card(folder, card | {"status": "done"})
        remove_checkpoint(folder)


def _in_stages(plan: Plan, session: Session, folder: Path) -> None:
    """Carries out stages, each in a folder of its own, from the first that is not finished on."""
    card, processes = described(plan, session.model), session.distributed
    if processes.is_main:
        write_card(folder, card | {"status": "running"})
        write_atomically(folder / "config.toml", config.to_toml(plan.tables).encode())
    runs: list[Run] = []
    for number, stage in enumerate(plan.stages, 1):
        name = "-".join([f"{number:02d}", *([dashed(stage.by)] if plan.before else []), slug(stage.concept)])
        progress = session.progress.within(f"stage {number} of {len(plan.stages)}, {plan.part(stage)}")
        start = runs[-1].delta(plan.fingerprint) if runs else {}
        runs.append(_carry_out(stage, replace(session, progress=progress), folder / "stages" / name, start))
    if processes.is_main:
        cards = [run.card for run in runs]
        lines = [line for run in runs for line in _log_lines(run.folder / "log.jsonl")]
        if lines:
            write_lines(folder / "log.jsonl", (json.loads(line) | {"step": number} for number, line in enumerate(lines, 1)))
        write_atomically(folder / "delta.safetensors", (runs[-1].folder / "delta.safetensors").read_bytes())
        card |= {name: cards[-1][name] for name in ("total", "processes", "relative_change")}
        card |= {"trainable": max(c["trainable"] for c in cards), "scope": " + ".join(dict.fromkeys(c["scope"] for c in cards))}
        card |= {name: sum(c[name] for c in cards) for name in ("forwards", "backwards")}
        card |= {"steps_done": sum(steps)} if (steps := [c["steps_done"] for c in cards if "steps_done" in c]) else {}
        card |= {"seconds": round(sum(c["seconds"] for c in cards), 2)}
        card |= {"peak_memory_bytes": max(c["peak_memory_bytes"] for c in cards)}
        stages = [
            {"id": r.id, "target": s.concept.target, "of": plan.part(s), "folder": str(r.folder.relative_to(folder))}
            for r, s in zip(runs, plan.stages, strict=True)
        ]
        write_card(folder, card | {"stages": stages, "status": "done"})


def _gathered(plan: Plan, session: Session, reference: Mapping[str, Tensor]) -> Batches | None:
    """What a method is trained on, sampled by the network with the weights `reference`; None for a closed form."""
    if not isinstance(plan.method, Objective) or plan.training is None:
        return None
    with session.distributed.main_first(), swapped(session.model.network, reference):  # the others find the images in the cache
        return gather(session, plan.concept, plan.method.needs, plan.training, plan.seed)


def _train(trainer: Trainer, session: Session, folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Trains into the folder; returns the cost, the number of steps, and those of the method's notes that are numbers."""
    try:
        with (
            tracked(trainer, session.trackers, folder, card) as track,
            trainer.model.mixed(trainer.accelerator.autocast),  # a stopping rule samples images in it too
        ):
            for _ in session.progress.steps(trainer.fit(), trainer.steps_done, trainer.training.steps):
                track()
    finally:
        if trainer.processes.is_main:
            trainer.log.write(folder / "log.jsonl")
    notes = {name: note.item() for name, note in trainer.hooks.notes.items() if note.ndim == 0}
    cost = {"forwards": trainer.costs.forwards, "backwards": trainer.costs.backwards, "steps_done": trainer.steps_done}
    return cost | ({"notes": notes} if notes else {})


def _log_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
