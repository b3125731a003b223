"""What a run says of itself: `card.json`, which also tells whose folder it is."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from expunge import config
from expunge.concepts.tables import concept_table
from expunge.config import version_of
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.runs.acceptance import FILE
from expunge.runs.plan import Plan
from expunge.storage.files import write_json
from expunge.storage.hashing import digest, sha256_of


def is_done(folder: Path, run: str, model: DiffusionModel | None = None, asked: Mapping[str, Any] | None = None) -> bool:
    """Whether the folder has this run, finished; with `model`, whether its images were generated as this model generates them.

    Args:
        asked: the content of the run's `config.toml`, by which the same request is known though other code made the run.

    Raises:
        ExpungeError: it holds another run, this run as other code made it, one whose images another scheduler or autoencoder made, or
            something else.
    """
    try:
        found = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        # What a killed process was writing beside is hidden.
        if folder.exists() and (not folder.is_dir() or any(not p.name.startswith(".") and p.name != FILE for p in folder.iterdir())):
            raise ExpungeError(
                f"{folder} is not a folder that is new, empty or of this run.",
                rule="folder-not-empty",
                value=str(folder),
                hint="Try another --out.",
            ) from None
        return False
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"{folder / 'card.json'} cannot be read as JSON: {error}.",
            rule="unreadable-card",
            value=str(folder / "card.json"),
            hint="Try another --out.",
        ) from error
    if found.get("id") != run and asked is not None and _config(folder) == config.to_toml(asked):
        raise ExpungeError(
            f"{folder} holds this run as other code made it.",
            rule="other-code",
            value=found.get("code"),
            hint="Try another --out to make it with the present code, or give the folder to `expunge eval` as it is.",
        )
    if found.get("id") != run:
        raise ExpungeError(
            f"{folder} is the folder of the run {found.get('id')}. This run is {run}.",
            rule="folder-of-another-run",
            value=found.get("id"),
            hint="Try another --out.",
        )
    drawn = found.get("model", {}).get("drawing")
    if model and drawn not in (None, _drawn(model)):
        raise ExpungeError(
            f"The images of the run in {folder} were generated with a scheduler, autoencoder, precision, number of steps or guidance "
            "that the model does not have now.",
            rule="other-rendering",
            value=str(folder),
            hint="Try another --out.",
        )
    return found.get("status") == "done"


def _config(folder: Path) -> str:
    try:
        return (folder / "config.toml").read_text(encoding="utf-8")
    except OSError:
        return ""


def described(plan: Plan, model: DiffusionModel) -> dict[str, Any]:
    """What is known of a run before it begins."""
    return {
        "id": plan.id,
        "method": plan.by,
        "config": config.settings(plan.method),
        "training": config.settings(plan.training) if plan.training else None,
        **({"before": [layer.tables for layer in plan.before]} if plan.before else {}),
        "concept": concept_table(plan.concept),
        "model": model_table(model),
        "seed": plan.seed,
        "scope": plan.method.scope.name,
        "rank": plan.method.scope.rank,
        "device": str(model.device),
        "dtype": plan.dtype,
        **({"quantize": plan.quantize} if plan.quantize else {}),
        "versions": versions(),
        "code": plan.code,
    }


def model_table(model: DiffusionModel) -> dict[str, str]:
    """Which model a run changes, and what else its images depend on."""
    return {"name": model.name, "fingerprint": model.fingerprint, "family": model.family, "drawing": _drawn(model)}


def _drawn(model: DiffusionModel) -> str:
    """A digest of how a run's images are generated, different for every other way. The canvas's own steps and guidance are not those
    of the same weights under another name."""
    return digest(model.rendering, config.settings(model.default_sampler))


def versions() -> dict[str, str]:
    """The versions of everything that may change a number."""
    return {"python": platform.python_version()} | {p: version_of(p) for p in ("expunge", "torch", "diffusers", "transformers")}


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Writes `card.json` with today's date in UTC under `date` and, of a finished run, the digest of its weights under `sha256`."""
    weights = folder / "delta.safetensors"
    digests = {weights.name: sha256_of(weights)} if card.get("status") == "done" and weights.is_file() else {}
    about = {"date": datetime.now(UTC).date().isoformat(), **({"sha256": digests} if digests else {})}
    write_json(folder / "card.json", dict(card) | about, indent=2)


def forget_peak(device: torch.device) -> None:
    """An accelerator's peak so far, so that the next is the run's; a process's own cannot be forgotten."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most memory that tensors have used since `forget_peak`; else the most that the whole process has used so far,
    the interpreter and its libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
