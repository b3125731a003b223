"""From what a person names to a denoiser: the embedded model, a diffusers folder, a hub id, a pipeline in memory."""

from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline

from expunge.canvas import CANVAS
from expunge.errors import ExpungeError
from expunge.models.checks import FAMILY, check_folder, find_device
from expunge.models.precision import DTYPES
from expunge.models.quiet import StableDiffusionPipeline, quiet
from expunge.models.stable_diffusion import StableDiffusion

NEW = tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 42)
"""Whether diffusers takes a `dtype`; before, it was `torch_dtype`."""


def load(model: str | Path | DiffusionPipeline, device: str = "cpu", dtype: str = "fp32", safety_checker: bool = False) -> StableDiffusion:
    """Makes a denoiser of a diffusers folder, a hub id, a pipeline in memory, or "canvas", the embedded model.

    Args:
        safety_checker: keep the one that the folder or hub id brings: for a pipeline that is given away. Without, it is not loaded.

    Raises:
        ExpungeError: the folder lacks a part, holds only pickles, or is no pipeline of this family; an unknown dtype.
    """
    if isinstance(model, StableDiffusionPipeline):
        return StableDiffusion(model)
    if isinstance(model, DiffusionPipeline):
        raise ExpungeError(f"{FAMILY}: {type(model).__name__} is no such pipeline; give a StableDiffusionPipeline, a folder or a hub id")
    if dtype not in DTYPES:
        raise ExpungeError(f"a dtype is one of {', '.join(DTYPES)}: {dtype!r} is none; choose one with --dtype")
    name, path = str(model), Path(model)
    if name == CANVAS:
        from expunge.canvas import WEIGHTS

        path = WEIGHTS / "pipeline"
    elif path.exists():
        check_folder(path)
    elif path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ExpungeError(f"a model is a diffusers folder, a hub id (owner/name) or {CANVAS!r}: {name!r} is none; check the path")
    try:
        with quiet():
            found = path if path.exists() else name
            precision = {"dtype" if NEW else "torch_dtype": torch.float32}
            left_out = {} if safety_checker else {"safety_checker": None}
            pipeline = StableDiffusionPipeline.from_pretrained(found, use_safetensors=True, **left_out, **precision)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExpungeError(f"a model is a Stable Diffusion pipeline in safetensors: {name}: {reason}; check the folder or id") from error
    pipeline.set_progress_bar_config(disable=True)
    denoiser = StableDiffusion(pipeline, name)
    pipeline.to(find_device(device))
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)  # the same numbers, laid out as convolutions read them fastest
    if dtype != "fp32":
        # Before rounding: a model is the same model in whatever precision it is run.
        assert denoiser.fingerprint
        with quiet():
            pipeline.to(DTYPES[dtype])
        denoiser.dtype = DTYPES[dtype]
    return denoiser
