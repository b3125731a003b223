"""To diffusers: a pipeline, or a folder of the network, with a run's changes in it."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.models.base import DiffusionModel
from expunge.models.family import Pipeline
from expunge.models.quiet import quiet


@torch.no_grad()
def to_pipeline(model: DiffusionModel, delta: Mapping[str, Tensor], dtype: torch.dtype) -> Pipeline:
    """The model's own pipeline, with these values in its network for good, in `dtype`."""
    parameters = dict(model.network.named_parameters())
    for name, value in delta.items():
        parameters[name].copy_(value)
    model.resting.stay()
    with quiet():
        return model.pipeline.to(dtype)


def save_network(model: DiffusionModel, delta: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes the model's network with these values in it, by diffusers' own names and in its precision or `dtype`; the model stays."""
    network: Any = copy.deepcopy(model.network)
    network.load_state_dict(delta, strict=False)
    with quiet():
        network.to(dtype or model.dtype).save_pretrained(folder, safe_serialization=True)
