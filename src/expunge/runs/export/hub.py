"""A run's model, or its LoRA file, on the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from expunge.errors import ExpungeError
from expunge.models.loading import Model
from expunge.models.source import source_of
from expunge.runs.export.change import Change
from expunge.runs.export.folder import merge
from expunge.runs.export.lora import write_lora
from expunge.runs.export.model_card import write_card
from expunge.runs.run import Run

LORA = "pytorch_lora_weights.safetensors"
"""The name under which diffusers looks for a LoRA in a repository."""

PICTURES = ("*.png", "*.jpg", "*.jpeg", "*.webp", "*.gif", "*.bmp", "*.tif", "*.tiff", "*.avif")
"""Never uploaded: a picture may show the concept."""


@dataclass(frozen=True)
class Upload:
    """A file of a repository."""

    name: str
    size: int
    """Bytes."""


def push(
    run: Run | str | Path,
    repository: str,
    *,
    model: Model | None = None,
    lora: bool = False,
    rank: int | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> list[Upload]:
    """Uploads a run's model, as `merge` writes it, or its LoRA file to the Hugging Face hub, with a model card.

    The repository is made if there is none. No picture is uploaded, nor any other file of the run's folder. The card has the metrics of
    the run's evaluation, so evaluate first.

    Args:
        repository: OWNER/NAME.
        model: the base model; default the one that the run's card names.
        lora: upload the LoRA file alone.
        rank: of the LoRA; see `write_lora`.
        private: make a new repository visible to its owner alone.
        dry_run: upload nothing; the files are written to a temporary folder and deleted.

    Returns:
        The files that are in the repository, or would be.

    Raises:
        ExpungeError: the name is none of a repository; the hub refuses, or cannot be reached; what `merge` or `write_lora` raises.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    _check_name(repository)
    with _staged(run, repository, model or run.card["model"]["name"], lora, rank) as folder:
        shown = {file for pattern in PICTURES for file in folder.rglob(pattern)}
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file not in shown)
        found = [Upload(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]
        if not dry_run:
            _upload(folder, repository, private, run)
    return found


@contextmanager
def _staged(run: Run, repository: str, model: Model, lora: bool, rank: int | None) -> Iterator[Path]:
    """A temporary folder with what is to be uploaded."""
    with TemporaryDirectory(prefix="expunge-") as place:
        folder = Path(place) / "upload"
        source = source_of(Change.of(model, run).model)
        if lora:
            folder.mkdir()
            write_lora(model, run, folder / LORA, rank)
            write_card(run, folder, "lora", repository, LORA, source)
        else:
            write_card(run, merge(model, run, folder), place=repository, source=source)
        yield folder


def _upload(folder: Path, repository: str, private: bool, run: Run) -> None:
    try:
        hub: Any = huggingface_hub.HfApi()
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(folder_path=folder, repo_id=repository, ignore_patterns=list(PICTURES), commit_message=f"{run.id}, by expunge")
    except Exception as error:  # of the client, of its HTTP library or of the network, which differ from version to version
        raise ExpungeError(
            f"{repository} could not be uploaded: {' '.join(str(error).split()) or type(error).__name__}.",
            rule="not-uploaded",
            value=repository,
            hint="Try `hf auth login`, with a token that may write there.",
        ) from error


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
        is_name = repository.count("/") == 1
    except HFValidationError:
        is_name = False
    if not is_name:
        raise ExpungeError(
            f"{repository!r} is not a repository of the hub.", rule="no-repository", value=repository, hint="Try OWNER/NAME."
        )
