"""A run's result in other people's formats: a pipeline in memory, a diffusers folder."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from expunge.denoiser import load as load_model
from expunge.run import Run
from expunge.types import ExpungeError


def load(
    model: str | Path | StableDiffusionPipeline, run: Run | str | Path, device: str = "cpu", dtype: str = "fp32"
) -> StableDiffusionPipeline:
    """The pipeline with the run's changes in it, ready for use with plain diffusers.

    Raises:
        ExpungeError: the run belongs to another base model, or is not finished.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    denoiser = load_model(model, device, dtype)
    delta = run.delta(denoiser.fingerprint)
    with torch.no_grad():
        parameters = dict(denoiser.net.named_parameters())
        for name, value in delta.items():
            parameters[name].copy_(value)
    return denoiser.pipeline


def merge(model: str | Path | StableDiffusionPipeline, run: Run | str | Path, folder: str | Path, dtype: str = "fp16") -> Path:
    """Writes the changed pipeline as a diffusers folder, which needs no expunge to load.

    Raises:
        ExpungeError: the folder exists and is not empty, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ExpungeError(f"a model is written into a new folder: {folder} is not empty; choose another")
    beside = folder.with_name(f".{folder.name}.part")
    try:
        load(model, run, dtype=dtype).save_pretrained(beside, safe_serialization=True)
        beside.replace(folder)
    except OSError as error:
        raise ExpungeError(f"a model is written into a writable folder: {folder}: {error.strerror}; choose another") from error
    return folder
