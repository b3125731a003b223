"""A run's model as a diffusers folder: what did not change is copied byte for byte, and only what did is written."""

import copy
import shutil
from pathlib import Path

import torch

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.exchange import save_network, to_pipeline
from expunge.models.family import Pipeline
from expunge.models.loading import Model
from expunge.models.loading import load as load_model
from expunge.models.precision import DTYPES
from expunge.models.source import parts_of, source_of
from expunge.runs.export.change import Change
from expunge.runs.export.model_card import write_card
from expunge.runs.export.provenance import write_provenance
from expunge.runs.export.weights import hold, rewrite, variants, write_indices
from expunge.runs.run import Run
from expunge.storage.files import folder_written_whole


def load(model: Model, run: Run | str | Path, device: str = "cpu", dtype: str | None = None) -> Pipeline:
    """The pipeline with the run's changes in it, ready for use with plain diffusers; all else, a safety checker too, is as it was.

    Args:
        dtype: default that of the run. Whatever it is, the changes go into the model as it was published, and are rounded with it once.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; an unknown dtype.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    kind = _dtype(dtype or run.card["dtype"])
    # A pipeline in memory is left as it was: what is changed, and brought to another precision, is a copy.
    loaded = load_model(model if isinstance(model, str | Path) else copy.deepcopy(model), device, safety_checker=True)
    return to_pipeline(loaded, run.delta(loaded.fingerprint), kind)


def merge(model: Model, run: Run | str | Path, folder: str | Path, dtype: str | None = None) -> Path:
    """Writes the changed model as a diffusers folder, which needs no expunge to load.

    Every part that the run did not change is copied byte for byte, whatever it is. The network's weights keep the names, the shards and
    the precision of the base model's files; a second copy of the network in another format, or of other values (as before averaging), is
    left out, because it would still have the concept. `README.md` is a model card with the metrics of the run's evaluation, if there is
    one, and `expunge.json` says where the model comes from. A pipeline in memory has no files to copy: diffusers saves all its parts.

    Args:
        dtype: of all weights, the other parts' too. Half precision halves the folder, and rounds. Default: that of each file of the base
            model; of a pipeline in memory that of the run.

    Raises:
        ExpungeError: the folder exists and is not empty, or cannot be written; the run belongs to another base model, or is not finished;
            the base model's folder lacks a part; an unknown dtype.
    """
    folder, kind = new_folder(Path(folder)), _dtype(dtype) if dtype else None
    change = Change.of(model, run)
    source = source_of(change.model)
    with folder_written_whole(folder) as beside:
        if source:
            _copy(change, source, beside, kind)
        else:
            load(model, change.run, dtype=dtype).save_pretrained(beside, safe_serialization=True)
        part = change.model.network_part
        write_card(change.run, beside, source=source)
        before = sorted((source / part).glob("*.safetensors")) if source else []
        write_provenance(change, beside, before, sorted((beside / part).glob("*.safetensors")))
    return folder


def refuse_unmergeable(model: DiffusionModel, folder: Path) -> None:
    """Refuses what `merge` would refuse, before the run that is to be merged is made.

    Raises:
        ExpungeError: the folder exists and is not empty; the base model's folder lacks a part.
    """
    new_folder(folder)
    source_of(model)


def new_folder(folder: Path) -> Path:
    """`folder`, which is to be written.

    Raises:
        ExpungeError: it exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExpungeError(
            f"{folder} is not a new or empty folder.",
            rule="folder-not-empty",
            value=str(folder),
            hint="Try another folder for the model.",
        )
    return folder


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ExpungeError(f"{name!r} is not a dtype.", rule="unknown-dtype", value=name, hint=f"Try {', '.join(DTYPES)} with --dtype.")
    return DTYPES[name]


def _copy(change: Change, source: Path, target: Path, dtype: torch.dtype | None) -> None:
    """Copies the parts of a pipeline, its index and its licences, with the changed network."""
    shutil.copyfile(source / "model_index.json", target / "model_index.json")
    for file in source.iterdir():
        if file.is_file() and file.suffix in ("", ".txt", ".md") and not file.name.lower().startswith((".", "readme")):
            shutil.copyfile(file, target / file.name)
    for part in parts_of(source):
        if part == change.model.network_part:
            _write_network(change, source / part, target / part, dtype)
        else:
            _copy_part(source / part, target / part, dtype)


def _copy_part(source: Path, target: Path, dtype: torch.dtype | None) -> None:
    rounded = [file.name for file in source.glob("*.safetensors")] if dtype else []
    shutil.copytree(source, target, ignore=lambda folder, names: {*rounded, *_hidden(names)}, copy_function=shutil.copyfile)
    for name in rounded:
        rewrite(source / name, target / name, {}, dtype)
    if rounded:
        write_indices(source, target)


def _write_network(change: Change, source: Path, target: Path, dtype: torch.dtype | None) -> None:
    target.mkdir()
    for file in source.glob("*.json"):
        if ".index" not in file.name:
            shutil.copyfile(file, target / file.name)
    kept = [files for files in variants(source) if hold(files, change.before)]
    for file in (file for files in kept for file in files):
        rewrite(file, target / file.name, change.after, dtype)
    if kept:
        write_indices(source, target)
    else:  # files of another layout, which diffusers turned into the network's own on reading
        save_network(change.model, change.after, target, dtype)


def _hidden(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(".")]
