"""The folder and the device that a model is loaded from and onto, checked with messages for the mistakes that users make."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.families import FAMILIES, family_of
from expunge.models.family import Pipeline
from expunge.models.stable_diffusion_xl import refuse_refiner
from expunge.models.weight_files import refuse_pointer


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
        raise _no_index(folder)
    refuse_pointer(index)
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExpungeError(
            f"{index} is not JSON: {error}.", rule="unreadable-index", value=str(index), hint="Try to save the pipeline again."
        ) from error
    if not isinstance(found, dict):
        raise ExpungeError(
            f"{index} is not the list of a pipeline's parts.",
            rule="unreadable-index",
            value=str(index),
            hint="Try to save the pipeline again.",
        )
    return found


def _no_index(folder: Path) -> ExpungeError:
    """The error for a folder without `model_index.json`, which says what is there and what works."""
    single = sorted(p.name for p in folder.glob("*.safetensors"))
    try:
        part = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError):
        part = None
    if part:
        what, which = (
            f"one part of a pipeline, a {part}",
            "the folder that has model_index.json, or `expunge adopt` for an unlearned network",
        )
    elif single:
        what, which = f"a folder with {single[0]}", f"--model {folder / single[0]}"
    else:
        what, which = "not a model folder in diffusers format", "another path"
    return ExpungeError(
        f"{folder} is {what}, it has no model_index.json.", rule="not-a-model-folder", value=str(folder), hint=f"Try {which}."
    )


def find_family(index: dict[str, Any], name: str) -> type[DiffusionModel]:
    """The family of a pipeline by the list of its parts.

    Raises:
        ExpungeError: a pipeline of no family that expunge knows, or a refiner.
    """
    refuse_refiner(index, name)
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
    """Refuses a folder that lacks a part of its family, or has a text file that Git LFS did not fetch.

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
        for file in sorted((folder / part).glob("*")):
            if file.is_file() and file.suffix in (".json", ".txt", ".model"):
                refuse_pointer(file)


UNBOUNDED = 100_000
"""A tokenizer with a longer limit has none: transformers then gives 1e30."""


def bound_tokenizers(pipeline: Pipeline, family: type[DiffusionModel]) -> None:
    """Gives tokenizers whose configuration names no length that of their text encoder, which diffusers pads to. Encoders without a length
    of their own, as T5, are limited by their families."""
    for tokenizer_part, encoder_part in zip(family.tokenizer_parts, family.text_encoder_parts, strict=False):
        tokenizer, encoder = getattr(pipeline, tokenizer_part, None), getattr(pipeline, encoder_part, None)
        if tokenizer is not None and encoder is not None and tokenizer.model_max_length > UNBOUNDED:
            tokenizer.model_max_length = getattr(encoder.config, "max_position_embeddings", None) or tokenizer.model_max_length
