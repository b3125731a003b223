"""What other libraries put around the networks of a pipeline in memory."""

from typing import Any

from torch import nn


def unwrapped(network: Any) -> nn.Module:
    """A network without the wrapper of `torch.compile`, under which every parameter would have another name."""
    return getattr(network, "_orig_mod", network)
