"""A run's result in other people's formats: a pipeline in memory, a diffusers folder."""

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError

from expunge.denoiser import Pipeline
from expunge.denoiser import load as load_model
from expunge.denoiser.stable_diffusion import DTYPES
from expunge.run import Run
from expunge.types import ExpungeError


def load(model: str | Path | Pipeline, run: Run | str | Path, device: str = "cpu", dtype: str | None = None) -> Pipeline:
    """The pipeline with the run's changes in it, ready for use with plain diffusers.

    Args:
        dtype: default that of the run. The model is read in the run's precision in any case, for it is known by its weights.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished; an unknown dtype.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    if dtype is not None and dtype not in DTYPES:
        raise ExpungeError(f"a dtype is one of {', '.join(DTYPES)}: {dtype!r} is none; choose one with --dtype")
    denoiser = load_model(model, device, run.card["dtype"])
    delta = run.delta(denoiser.fingerprint)
    with torch.no_grad():
        parameters = dict(denoiser.net.named_parameters())
        for name, value in delta.items():
            parameters[name].copy_(value)
    return denoiser.pipeline.to(DTYPES[dtype]) if dtype else denoiser.pipeline


def merge(model: str | Path | Pipeline, run: Run | str | Path, folder: str | Path, dtype: str = "fp16") -> Path:
    """Writes the changed pipeline as a diffusers folder, which needs no expunge to load.

    Raises:
        ExpungeError: the folder exists and is not empty, or cannot be written.
    """
    folder = new_folder(Path(folder))
    beside = folder.with_name(f".{folder.name}.part")
    try:
        load(model, run, dtype=dtype).save_pretrained(beside, safe_serialization=True)
        beside.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ExpungeError(f"a model is written into a writable folder: {folder}: {error}; choose another") from error
    return folder


def new_folder(folder: Path) -> Path:
    """`folder`, which is to be written.

    Raises:
        ExpungeError: it exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExpungeError(f"a model is written into a new folder: {folder} holds something; choose another")
    return folder
