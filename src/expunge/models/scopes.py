"""Scopes: names for the weights that a method may change. Each family says which of its parameters a name means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Scope:
    """The parameters that a method trains, or low-rank additions to them.

    Frozen parameters get no gradient at all: with cross-attention alone the backward pass of a Stable Diffusion U-Net costs
    1.1 forwards instead of 2, and no buffer of the other gradients exists.
    """

    name: str
    pattern: str | None = None
    """A regular expression that is found in the full names of parameters. None: the model's family knows the scope by its name."""
    rank: int = 0
    """0 trains the parameters themselves. r > 0 trains, for each matrix W of shape [out, in], factors A [r, in] and B [out, r], and W
    becomes W + B A: far fewer numbers, a smaller change (LoRA, arXiv 2106.09685, without its scale)."""
    of: str = ""
    """The name that the family knows it by, where it is another."""
    title: str = ""
    """What it holds, in a few words."""


SCOPES: dict[str, Scope] = {
    "xattn-kv": Scope("xattn-kv", title="keys and values of cross-attention: how words are read"),
    "xattn": Scope("xattn", title="all of cross-attention"),
    "entrance": Scope("entrance", title="every map where words enter, that of the pooled vector too"),
    "non-xattn": Scope("non-xattn", title="everything but cross-attention"),
    "full": Scope("full", title="the whole network"),
    "xattn-lora": Scope("xattn-lora", rank=4, of="xattn", title="matrices of low rank, added to those of cross-attention"),
}
"""The scopes that methods offer as variants."""


def matching(network: nn.Module, pattern: str, rank: int = 0) -> dict[str, nn.Parameter]:
    """The parameters whose names match, in the network's order; for a rank the matrices of linear layers alone."""
    linear = {f"{name}.weight" for name, layer in network.named_modules() if hasattr(layer, "in_features")}
    return {n: p for n, p in network.named_parameters() if re.search(pattern, n) and (not rank or n in linear)}


def size_of(parameters: Mapping[str, Tensor], rank: int = 0) -> int:
    """How many numbers are trained."""
    return sum(rank * sum(p.shape) if rank else p.numel() for p in parameters.values())
