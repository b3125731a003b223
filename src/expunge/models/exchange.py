"""From and to other programs: a model with a LoRA added, a pipeline with a run's changes in it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.family import Pipeline
from expunge.models.quiet import quiet


@torch.no_grad()
def to_pipeline(model: DiffusionModel, delta: Mapping[str, Tensor], dtype: torch.dtype) -> Pipeline:
    """The model's own pipeline, with these values in its network for good, in `dtype`."""
    parameters = dict(model.network.named_parameters())
    for name, value in delta.items():
        parameters[name].copy_(value)
    with quiet():
        return model.pipeline.to(dtype)


def save_network(model: DiffusionModel, delta: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes the model's network with these values in it, by diffusers' own names and in its precision or `dtype`; the model stays."""
    network: Any = copy.deepcopy(model.network)
    network.load_state_dict(delta, strict=False)
    with quiet():
        network.to(dtype or model.dtype).save_pretrained(folder, safe_serialization=True)


def with_lora(model: DiffusionModel, file: Path) -> DiffusionModel:
    """A copy of the model that a LoRA was added to for good.

    Raises:
        ExpungeError: peft is not installed, or the file does not fit the model.
    """
    pipeline = copy.deepcopy(model.pipeline)
    try:
        with quiet():
            pipeline.load_lora_weights(file.parent, weight_name=file.name)
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
    except (ImportError, ValueError, KeyError, RuntimeError) as error:
        raise ExpungeError(
            f"The LoRA {file} cannot be added to {model.name}: {' '.join(str(error).split())}.",
            rule="lora-does-not-fit",
            value=str(file),
            hint="Try `pip install 'expunge[lora]'`, or check that the file was made for this model.",
        ) from error
    return type(model)(pipeline)
