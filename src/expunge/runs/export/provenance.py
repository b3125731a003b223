"""Where a written model comes from: run, concept, method, and digests of what went in and what came out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge.models.reference import Reference, hub_id
from expunge.runs.export.change import Change
from expunge.runs.run import Run
from expunge.storage.files import write_json
from expunge.storage.hashing import sha256_of

FILE = "expunge.json"


def short_name(run: Run) -> str:
    """The base model's name as others may read it: a hub id, or the last part of a path."""
    name = run.card.model or "model"
    return hub_id(name) or Path(Reference.parse(name).name).name


def described(change: Change) -> dict[str, Any]:
    """What every written file says of its origin."""
    card = change.run.card
    return {
        "run": card.id,
        "concept": [t.target for t in card.targets] or [card.target],
        "method": card.method,
        "settings": dict(card.config),
        "base": {"name": short_name(change.run), "fingerprint": card.fingerprint, "network": change.model.network_part},
        "delta": {"sha256": sha256_of(change.run.folder / "delta.safetensors"), "relative_change": card.relative_change},
        "date": card.date,
        "versions": dict(card.versions),
    }


def as_metadata(change: Change) -> dict[str, str]:
    """The same for the header of a safetensors file. One key: the order of several differs from process to process."""
    return {"expunge": json.dumps(described(change), sort_keys=True)}


def write_provenance(change: Change, folder: Path, base: Sequence[Path], result: Sequence[Path]) -> None:
    """Writes `expunge.json` into a folder, with the SHA-256 of the network's files before and after."""
    digests = {
        "base": {file.name: sha256_of(file) for file in base},
        "result": {str(file.relative_to(folder)): sha256_of(file) for file in result},
    }
    write_json(folder / FILE, described(change) | {"sha256": digests}, indent=2)
