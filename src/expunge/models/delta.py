"""The tensors that unlearning changed: in a file, and in a network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.storage.tensors import metadata_of, read_tensors, write_tensors

FORMAT = "expunge-delta-1"

HALVES = (torch.float16, torch.bfloat16)
"""What models are published in: a weight that only passed through one of these was not changed."""


def is_rounded(their: Tensor, our: Tensor) -> bool:
    """Whether two tensors in float32 are equal, as they are or once one of them is rounded to half precision."""
    return torch.equal(their, our) or any(
        torch.equal(their, our.to(half).float()) or torch.equal(their.to(half).float(), our) for half in HALVES
    )


def relative_change(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    """|| after - before || / || before ||, Frobenius, over all tensors together."""
    moved = sum((after[k].double() - before[k].double()).square().sum().item() for k in after)
    size = sum(before[k].double().square().sum().item() for k in after)
    return (moved / size) ** 0.5


def fitted(net: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values` on the devices and in the dtypes of the network's own tensors; a file may have others.

    Raises:
        ExpungeError: the network lacks one of them.
    """
    parameters = dict(net.named_parameters())
    if unknown := sorted(values.keys() - parameters.keys()):
        raise ExpungeError(
            f"The delta changes the tensor {unknown[0]}, which {type(net).__name__} does not have.",
            rule="other-tensors",
            value=unknown[0],
            hint="Try the model that the delta was made for.",
        )
    return {name: value.to(parameters[name].device, parameters[name].dtype) for name, value in values.items()}


@contextmanager
def swapped(net: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with `values` in place of its own tensors, for as long as the context lasts."""
    parameters, placed = dict(net.named_parameters()), fitted(net, values)
    kept = {name: parameters[name].data for name in values}
    try:
        for name, value in placed.items():
            parameters[name].data = value
        yield
    finally:
        for name, data in kept.items():
            parameters[name].data = data


def called_with(network: nn.Module, values: dict[str, Tensor], *arguments: Any, **named: Any) -> Any:
    """A call of the network with `values` in place of its own tensors, with gradient into them."""
    if network not in _HAS_TIES:
        _HAS_TIES[network] = len(list(network.named_parameters(remove_duplicate=False))) > len(list(network.parameters()))
    return torch.func.functional_call(network, values, arguments, named, tie_weights=_HAS_TIES[network])


_HAS_TIES: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a parameter of a network has several names. PyTorch looks for these in each such call, unless it is told that there are none."""


def save_delta(path: Path, values: Mapping[str, Tensor], base: str) -> None:
    """Writes the changed tensors with the fingerprint of the model that they belong to."""
    # One key alone: the order of several is not the same from one process to the next, and equal deltas are to be equal bytes.
    write_tensors(path, values, {FORMAT: base})


def load_delta(path: Path, base: str | None = None) -> dict[str, Tensor]:
    """Reads the changed tensors.

    Raises:
        ExpungeError: unreadable, not a delta, or made for a model with another fingerprint than `base`.
    """
    values = read_tensors(path, f"deleting the folder {path.parent} and running again")  # a run that is finished is not run again
    metadata = metadata_of(path)
    if FORMAT not in metadata:
        raise ExpungeError(
            f"{path} is not a delta. It has no mark {FORMAT}.",
            rule="not-a-delta",
            value=str(path),
            hint="Try a run's delta.safetensors.",
        )
    if base is not None and metadata[FORMAT] != base:
        raise ExpungeError(
            f"{path} was made for the base model {metadata[FORMAT]}. This model is {base}.",
            rule="other-base-model",
            value=base,
            hint="Try the model that it was made from.",
        )
    return values
