"""Writes the run folder of a network that was trained anew without a concept: the control of unlearning."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from expunge import config
from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_table, slug
from expunge.config import version_of
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change, save_delta
from expunge.names import RETRAINED
from expunge.runs.card import is_done, model_table, peak_memory, versions, write_card
from expunge.runs.run import Run
from expunge.storage.files import write_atomically, write_lines
from expunge.storage.hashing import digest
from expunge.storage.lock import alone_in

STAGE = "unet"
"""The name of the stage of training whose log becomes the run's."""


class Settings(Protocol):
    """How the network is trained: a dataclass of settings with at least these."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


def write_retrained(
    model: DiffusionModel,
    concept: Subject,
    out: str | Path | None,
    *,
    seed: int,
    training: Settings,
    code: str,
    train: Callable[[Path], Mapping[str, Tensor]],
) -> Run:
    """Train into a run folder, by `train` in a folder for its checkpoints, or return the run that is finished there.

    Every weight is in the delta, in half precision: the precision in which embedded models are stored.

    Args:
        code: A digest of the code that decides the weights.

    Raises:
        ExpungeError: The folder contains another run.
    """
    card = _card(model, concept, seed, training, code)
    folder = Path(out) if out else Path("runs") / card["id"]
    if is_done(folder, card["id"], asked=_tables(card)):
        return Run(folder)
    with alone_in(folder):
        if not is_done(folder, card["id"]):  # another process may have finished it meanwhile
            _carry_out(model, card, training, folder, train)
    return Run(folder)


def _carry_out(
    model: DiffusionModel, card: dict[str, Any], training: Settings, folder: Path, train: Callable[[Path], Mapping[str, Tensor]]
) -> None:
    """Train into the folder, or resume from its last checkpoint."""
    write_card(folder, card | {"status": "running"})  # written first, so that an interrupted run is recognised
    write_atomically(folder / "config.toml", config.to_toml(_tables(card)).encode())

    started, work = time.monotonic(), folder / "training"
    work.mkdir(exist_ok=True)
    delta = {name: value.detach().to("cpu", copy=True).contiguous().half() for name, value in train(work).items()}
    log = work / f"{STAGE}.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    write_lines(folder / "log.jsonl", (line | {"terms": {"denoise": line["loss"]}} for line in lines))
    save_delta(folder / "delta.safetensors", delta, model.fingerprint)
    before = {name: p.detach().cpu() for name, p in model.network.named_parameters()}
    size, count = sum(p.numel() for p in before.values()), training.steps * training.batch_size
    card |= {"trainable": size, "total": size, "forwards": count, "backwards": count, "steps_done": training.steps}
    card |= {"peak_memory_bytes": peak_memory(model.device)}
    card |= {"relative_change": relative_change(delta, before), "seconds": round(time.monotonic() - started, 2), "status": "done"}
    write_card(folder, card)
    shutil.rmtree(work)


def _tables(card: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.toml`."""
    return {key: card[key] for key in ("seed", "concept", "training")} | {"method": {"name": RETRAINED}}


def _card(model: DiffusionModel, concept: Subject, seed: int, training: Settings, code: str) -> dict[str, Any]:
    deciding = {"seed": seed, "concept": concept_table(concept), "training": config.settings(training)}
    return {
        "id": f"retrain-{slug(concept)}-{digest(deciding, model.fingerprint, version_of('expunge'), code)[:10]}",
        "method": RETRAINED,
        "config": {},
        **deciding,
        "model": model_table(model),
        "scope": "full",
        "device": str(model.device),
        "dtype": "fp32",
        "versions": versions(),
        "code": code,
    }
