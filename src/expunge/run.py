"""One run: a concept is removed from a model by a method, and a folder says all there is to say about it."""

import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import config
from expunge.cache import Store, write_atomically
from expunge.concept import Concept
from expunge.data import Track, gather, untracked
from expunge.denoiser import Pipeline, StableDiffusion
from expunge.denoiser import load as load_model
from expunge.objective import Edit, EditPrompts, Method, Objective, Training
from expunge.plan import Plan, concept_from, concept_table, make_plan, version_of
from expunge.price import counted
from expunge.train import CHECKPOINT, Trainer
from expunge.types import ExpungeError, Step
from expunge.weights import Memo, TrainState, load_delta, relative_change, save_delta

Watch = Callable[[Iterator[Step], int], Iterator[Step]]
"""Sees every step pass, with the number of the first: a progress bar, or nothing."""


@dataclass(frozen=True)
class Run:
    """A finished run's folder: `config.toml`, `delta.safetensors`, `log.jsonl`, `card.json`."""

    folder: Path

    @cached_property
    def card(self) -> dict[str, Any]:
        """Settings, versions, costs and outcome.

        Raises:
            ExpungeError: the folder holds no finished run.
        """
        try:
            card = json.loads((self.folder / "card.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExpungeError(f"a run is a folder with a card.json: {self.folder}: {error}; make one with `expunge unlearn`") from error
        if card.get("status") != "done":
            raise ExpungeError(f"a run is finished: {self.folder} is {card.get('status')!r}; repeat its `expunge unlearn` to go on with it")
        return card

    @property
    def id(self) -> str:
        return self.card["id"]

    def delta(self, base: str | None = None) -> dict[str, Tensor]:
        """The changed tensors; with `base`, only for the model of that fingerprint."""
        return load_delta(self.folder / "delta.safetensors", base)

    def concept(self) -> Concept:
        """The concept as it was removed, with the vocabulary that it was removed under."""
        return concept_from(self.card["concept"])


def unlearn(
    model: str | Path | Pipeline | StableDiffusion,
    concept: str | Concept,
    method: str | Method = "mim-mu",
    *,
    training: Training | Mapping[str, Any] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "fp32",
    store: Store | None = None,
    track: Track = untracked,
    watch: Watch | None = None,
    **settings: Any,
) -> Run:
    """Removes a concept from a model and writes what changed.

    Args:
        model: "canvas" (the embedded one), a diffusers folder, a hub id, or a pipeline in memory, which is left as it was.
        concept: a name ("Van Gogh style"), looked up in the canvas's words or in the general vocabulary, or a `Concept`.
        method: a registered name with `settings`, or a method made beforehand.
        training: other than the method's own defaults, whole or single settings.
        seed: of pictures, noise and batches. Another seed is another run.
        out: the run's folder; default `runs/<id>`. A finished run of the same id is returned as it is, a killed one goes on.
        store: where what can be reused is kept; default `Store.default()`.

    Returns:
        The run. `expunge.load(model, run)` gives the changed pipeline, `expunge.evaluate(run)` measures it.

    Raises:
        ExpungeError: any bad input; a folder of another run; nothing changed; a loss that is not finite.
    """
    denoiser = model if isinstance(model, StableDiffusion) else load_model(model, device, dtype)
    plan = make_plan(denoiser, concept, method, training=training, seed=seed, dtype=dtype, **settings)
    return carry_out(plan, denoiser, out=out, store=store or Store.default(), track=track, watch=watch)


def carry_out(plan: Plan, denoiser: StableDiffusion, *, out: str | Path | None, store: Store, track: Track, watch: Watch | None) -> Run:
    """Runs a plan into its folder, or goes on with it."""
    folder = Path(out) if out else Path("runs") / plan.id
    if _is_done(folder, plan.id):
        return Run(folder)
    card = _card(plan, denoiser)
    _write_card(folder, card | {"status": "running"})  # first: a run killed after it is known as its own
    write_atomically(folder / "config.toml", config.to_toml(plan.tables).encode())

    started = time.monotonic()
    state = TrainState(denoiser.net, plan.method.scope)
    card |= {"trainable": sum(p.numel() for p in state.trained.values()), "total": sum(p.numel() for p in denoiser.net.parameters())}
    try:
        if isinstance(plan.method, Objective):
            with counted(denoiser.net) as count:
                backwards = _train(plan, plan.method, denoiser, state, folder, store, track, watch)
            card |= {"forwards": count.samples, "backwards": backwards}
        else:
            state.load(_edit(plan, plan.method, denoiser, state))
            card |= {"forwards": 0, "backwards": 0}
        delta = state.delta()
        card["relative_change"] = relative_change(delta, {k: v.cpu() for k, v in state.initial.items()})
    finally:
        state.release()
        denoiser.autocast = type(denoiser)(denoiser.pipeline).autocast
    if card["relative_change"] == 0:
        raise ExpungeError(f"unlearning changes weights: {folder} changed none of {card['trainable']} numbers; raise --lr or --steps")
    save_delta(folder / "delta.safetensors", delta, plan.fingerprint)
    card |= {"seconds": round(time.monotonic() - started, 2), "peak_memory_bytes": _peak_memory(denoiser.device), "status": "done"}
    _write_card(folder, card)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    shutil.rmtree(folder / "reference", ignore_errors=True)
    return Run(folder)


def _is_done(folder: Path, run: str) -> bool:
    """Whether the folder holds this run, finished.

    Raises:
        ExpungeError: it holds another run, or something else.
    """
    try:
        found = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        # What a killed process was writing beside is hidden.
        if folder.exists() and (not folder.is_dir() or any(not p.name.startswith(".") for p in folder.iterdir())):
            raise ExpungeError(
                f"a run's folder is new, empty or its own: {folder} holds something else; choose another with --out"
            ) from None
        return False
    except (OSError, ValueError) as error:
        raise ExpungeError(f"a run's card is JSON: {folder / 'card.json'}: {error}; choose another folder with --out") from error
    if found.get("id") != run:
        raise ExpungeError(f"a folder holds one run: {folder} has {found.get('id')}, this is {run}; choose another with --out")
    return found.get("status") == "done"


def _train(
    plan: Plan,
    method: Objective,
    denoiser: StableDiffusion,
    state: TrainState,
    folder: Path,
    store: Store,
    track: Track,
    watch: Watch | None,
) -> int:
    """Trains into the folder and gives the number of samples that went backwards."""
    memo, training = Memo(), plan.training
    assert training is not None
    batches = gather(denoiser, plan.concept, method.needs, training, plan.seed, store, memo, track)
    if training.gradient_checkpointing:
        denoiser.net.enable_gradient_checkpointing()
        denoiser.net.train()
    trainer = Trainer(method, training, batches, state, memo, folder, plan.dtype)
    lines = _log_lines(folder / "log.jsonl", trainer.steps_done)
    steps = trainer.fit()
    try:
        for step in watch(steps, trainer.steps_done) if watch else steps:
            lines.append(json.dumps({"step": step.step, "loss": step.loss, "terms": dict(step.terms), "grad_norm": step.grad_norm}))
    finally:
        write_atomically(folder / "log.jsonl", "".join(f"{line}\n" for line in lines).encode())
        if training.gradient_checkpointing:
            denoiser.net.disable_gradient_checkpointing()
            denoiser.net.eval()
    return trainer.student.calls


def _log_lines(path: Path, steps_done: int) -> list[str]:
    return path.read_text().splitlines()[:steps_done] if path.exists() else []


def _edit(plan: Plan, method: Edit, denoiser: StableDiffusion, state: TrainState) -> dict[str, Tensor]:
    forget = plan.concept.forget()
    prompts = EditPrompts(
        denoiser.encode([p.prompt for p in forget]), denoiser.encode([p.anchor for p in forget]), denoiser.encode(plan.concept.retain())
    )
    with torch.no_grad():
        return method(state.trained, prompts)


# --- what a run says of itself ---------------------------------------------------------------------------------------------


def _card(plan: Plan, denoiser: StableDiffusion) -> dict[str, Any]:
    return {
        "id": plan.id,
        "method": config.method_name(plan.method),
        "config": config.settings(plan.method),
        "training": config.settings(plan.training) if plan.training else None,
        "concept": concept_table(plan.concept),
        "model": {"name": plan.model, "fingerprint": plan.fingerprint, "family": "stable-diffusion"},
        "seed": plan.seed,
        "scope": plan.method.scope.name,
        "device": str(denoiser.device),
        "dtype": plan.dtype,
        "versions": {"python": platform.python_version()} | {p: version_of(p) for p in ("expunge", "torch", "diffusers", "transformers")},
    }


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    write_atomically(folder / "card.json", (json.dumps(card, indent=2) + "\n").encode())


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
