"""A model that samples in another precision than the one it was loaded in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from expunge.models.base import DiffusionModel


@contextmanager
def rounded(model: DiffusionModel, dtype: torch.dtype | None) -> Iterator[None]:
    """The model with its network in `dtype`, for as long as the context lasts; its own weights wait beside and are put back exactly.

    Latents between the steps stay in float32, and text encoders and autoencoder stay as they were loaded. None changes nothing.
    """
    if dtype is None or dtype == model.dtype:
        yield
        return
    assert model.fingerprint  # now: the weights of the network may be what it is computed from
    kept = [(tensor, tensor.data) for tensor in _rounded_tensors(model.network, dtype)]
    before = model.dtype
    try:
        for tensor, data in kept:
            tensor.data = data.to(dtype)
        model.dtype = dtype
        yield
    finally:
        model.dtype = before
        for tensor, data in kept:
            tensor.data = data


def _rounded_tensors(network: nn.Module, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """What diffusers would load in `dtype`: it leaves some layers of some networks in float32 where the rest is in float16."""
    exempt = set(getattr(network, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not exempt & set(name.split(".")):
            yield tensor
