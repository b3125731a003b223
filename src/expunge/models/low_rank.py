"""Low-rank additions to linear layers, added to what the layers return instead of to their weights.

No dense W + B A exists for any call, and the layer's own weight may be stored in any format.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from expunge.errors import ExpungeError

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""A [rank, in] and B [out, rank] by the name of the weight that B A is added to."""


def split(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Factors]:
    """Values of whole weights, and the factors among them, which are called NAME.A and NAME.B."""
    names = [name.removesuffix(".A") for name in weights if name.endswith(".A")]
    factors = {name: (weights[f"{name}.A"], weights[f"{name}.B"]) for name in names}
    whole = {name: value for name, value in weights.items() if name.removesuffix(".A").removesuffix(".B") not in factors}
    return whole, factors


@contextmanager
def added(network: nn.Module, factors: Factors) -> Iterator[None]:
    """Within the context each layer with factors returns x W^T + x A^T B^T, with gradient into the factors.

    Raises:
        ExpungeError: factors for something other than the weight of a linear layer.
    """
    layers = [(_layer(network, name), a, b) for name, (a, b) in factors.items()]
    # First of the hooks: others see what the layer and its factors return together.
    handles = [layer.register_forward_hook(_adding(a, b), prepend=True) for layer, a, b in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer(network: nn.Module, name: str) -> nn.Module:
    layer = network.get_submodule(name.rpartition(".")[0])
    if not name.endswith(".weight") or not hasattr(layer, "in_features"):
        raise ExpungeError(
            f"A low-rank change of {name!r} is not possible, it is no weight of a linear layer.",
            rule="low-rank-not-linear",
            value=name,
            hint="Try a scope of linear layers, such as xattn-lora.",
        )
    return layer


def _adding(a: Tensor, b: Tensor) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def add(layer: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        return out + (inputs[0].to(a.dtype) @ a.mT @ b.mT).to(out.dtype)

    return add
