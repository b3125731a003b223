"""A network that `torch.compile` translates for sampling, where it can."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from expunge.models.base import DiffusionModel

BACKEND = "inductor"
"""What compiles. torch's own needs a C++ compiler on a CPU, and Triton on a GPU."""


@contextmanager
def compiled(model: DiffusionModel, is_wanted: bool = True) -> Iterator[str | None]:
    """The model with a compiled network, for as long as the context lasts. Its tensors keep their names, and may change meanwhile.

    The first call of each shape and precision compiles, which takes from seconds to minutes.

    Yields:
        None; or, in one sentence, why the network could not be compiled. Then it computes as before.
    """
    network = model.network
    if not is_wanted or network._compiled_call_impl is not None:
        yield None
        return
    try:
        yield _compile(model)
    finally:
        network._compiled_call_impl = None


@torch.no_grad()
def _compile(model: DiffusionModel) -> str | None:
    """Compiles the network and calls it with two rows. If that fails, the network is as before."""
    network = model.network
    x_t, t = model.noise([0, 1]).to(model.dtype), model.path.times(torch.full((2,), 0.5)).to(model.device)
    cond = model.null(2)
    try:
        network.compile(backend=BACKEND)
        model.run(x_t, t, cond)
    except Exception as error:  # of dynamo, of a backend, of a compiler that is missing or fails: they share no class
        network._compiled_call_impl = None
        model.run(x_t, t, cond)  # an error without a compiler too is not the compiler's
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        return f"The network was not compiled, and computed as without --compile: {reason}."
    return None
