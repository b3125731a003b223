"""From what a user names to a model: the embedded one, a diffusers folder, a hub id, a pipeline in memory."""

from pathlib import Path
from typing import TypeAlias

import diffusers
import torch

from expunge.canvas import CANVAS
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.checks import check_folder, find_device, find_family, read_index
from expunge.models.defaults import defaults_of
from expunge.models.families import FAMILIES
from expunge.models.family import Pipeline
from expunge.models.fingerprints import weight_files
from expunge.models.precision import DTYPES
from expunge.models.quiet import DiffusionPipeline, quiet

IS_NEW = tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 42)
"""Whether diffusers takes a `dtype`; before, it was `torch_dtype`."""

Model: TypeAlias = str | Path | Pipeline | DiffusionModel
"""What a user may name a model by."""


def load(model: Model, device: str = "cpu", dtype: str = "fp32", safety_checker: bool = False) -> DiffusionModel:
    """Loads a model from a diffusers folder, a hub id, a pipeline in memory, or "canvas", the embedded one.

    A model that is loaded already is returned as it is, and a pipeline in memory stays on its device and in its precision.

    Args:
        safety_checker: keep the one that the folder or hub id brings: for a pipeline that is given away. Without, it is not loaded.

    Raises:
        ExpungeError: the folder lacks a part or holds only pickles; a pipeline of an unknown family; an unknown dtype.
    """
    if isinstance(model, DiffusionModel):
        return model
    if isinstance(model, DiffusionPipeline):
        return _family_in_memory(model)(model)
    if dtype not in DTYPES:
        raise ExpungeError(f"{dtype!r} is not a dtype.", rule="unknown-dtype", value=dtype, hint=f"Try {', '.join(DTYPES)} with --dtype.")
    name = str(model)
    path = defaults_of(name).folder or Path(model)
    if not path.exists() and (path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1):
        raise ExpungeError(
            f"{name!r} is not a diffusers folder, a hub id (owner/name) or {CANVAS!r}.",
            rule="unknown-model",
            value=name,
            hint="Try another path.",
        )
    try:
        with quiet():
            index = read_index(path) if path.exists() else DiffusionPipeline.load_config(name)
            family = find_family(index, name)
            if path.exists():
                check_folder(path, family)
            precision = {"dtype" if IS_NEW else "torch_dtype": torch.float32}
            left_out = {"safety_checker": None} if "safety_checker" in index and not safety_checker else {}
            pipeline = getattr(diffusers, family.pipeline_class).from_pretrained(
                path if path.exists() else name, use_safetensors=True, trust_remote_code=False, **left_out, **precision
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExpungeError(
            f"{name} cannot be loaded: {str(error).strip().splitlines()[0].rstrip('.')}.",
            rule="unreadable-model",
            value=name,
            hint="Try to check the folder or id; its weights must be safetensors.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    hashed = [getattr(pipeline, part) for part in (family.network_part, *family.text_encoder_parts)]
    loaded = family(pipeline, name, weight_files(hashed))
    pipeline.to(find_device(device))
    for part in (loaded.network, pipeline.vae):
        for parameter in part.parameters():
            if parameter.ndim == 4:  # the same numbers, laid out as convolutions of images read them fastest
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    if dtype != "fp32":
        # Before rounding: a model is the same model in whatever precision it is run.
        assert loaded.fingerprint
        with quiet():
            pipeline.to(DTYPES[dtype])
        loaded.dtype = DTYPES[dtype]
    return loaded


def _family_in_memory(pipeline: Pipeline) -> type[DiffusionModel]:
    found = (FAMILIES[kind.__name__] for kind in type(pipeline).__mro__ if kind.__name__ in FAMILIES)
    if family := next(found, None):
        return family
    kind = type(pipeline).__name__
    raise ExpungeError(
        f"The pipeline is a {kind}, a model of no family that expunge knows.",
        rule="unknown-family",
        value=kind,
        hint=f"Try a {' or a '.join(FAMILIES)}, a folder or a hub id.",
    )
