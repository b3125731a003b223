"""The folder and the device that a model is loaded from and onto, checked with messages for the mistakes that users make."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.families import FAMILIES, family_of


def find_device(device: str) -> torch.device:
    """The device of that name; "auto" is the accelerator where there is one.

    Raises:
        ExpungeError: this machine has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # one of several processes, each with a device of its own
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % max(1, torch.cuda.device_count())}"
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ExpungeError(
            f"This machine has no device {device!r}: {str(error).splitlines()[0]}.",
            rule="unknown-device",
            value=device,
            hint="Try --device cpu.",
        ) from error


def read_index(folder: Path) -> dict[str, Any]:
    """The list of a pipeline's parts in a folder.

    Raises:
        ExpungeError: the folder has none, or one that cannot be read.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        single = sorted(p.name for p in folder.glob("*.safetensors")) if folder.is_dir() else [folder.name]
        raise ExpungeError(
            f"{folder} is not a model folder in diffusers format, it has no model_index.json.",
            rule="not-a-model-folder",
            value=str(folder),
            hint=f"Try to convert {single[0]} with StableDiffusionPipeline.from_single_file(...).save_pretrained(...)."
            if single
            else "Try another path.",
        )
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExpungeError(
            f"{index} is not JSON: {error}.", rule="unreadable-index", value=str(index), hint="Try to save the pipeline again."
        ) from error
    return found


def find_family(index: dict[str, Any], name: str) -> type[DiffusionModel]:
    """The family of a pipeline by the list of its parts.

    Raises:
        ExpungeError: a pipeline of no family that expunge knows.
    """
    kind = str(index.get("_class_name"))
    if family := family_of(kind, {part: value[1] for part, value in index.items() if isinstance(value, list) and value[0]}):
        return family
    raise ExpungeError(
        f"{name} is a {kind}, a model of no family that expunge knows.",
        rule="unknown-family",
        value=kind,
        hint=f"Try a {' or a '.join(FAMILIES)}.",
    )


def check_folder(folder: Path, family: type[DiffusionModel]) -> None:
    """Refuses a folder that lacks a part of its family, or holds weights as pickles.

    Raises:
        ExpungeError: it does.
    """
    index = read_index(folder)
    again = "Try to copy or save the pipeline again."
    for part in family.parts:
        if part not in index:
            kind = index.get("_class_name")
            raise ExpungeError(f"{folder}, a {kind}, lists no {part}.", rule="missing-part", value=part, hint="Try another model.")
        if not (folder / part).is_dir():
            raise ExpungeError(f"The part {folder / part} of the model is missing.", rule="missing-part", value=part, hint=again)
    for part in (family.network_part, "vae", *family.text_encoder_parts):
        if not any((folder / part).glob("*.safetensors")):
            pickles = sorted(p.name for p in (folder / part).glob("*.bin"))
            have = f"only {pickles[0]}, a pickle, which can run code when it is read" if pickles else "no weights"
            raise ExpungeError(
                f"{folder / part} holds {have}.",
                rule="no-safetensors",
                value=str(folder / part),
                hint="Try to save the pipeline again with safe_serialization=True.",
            )
