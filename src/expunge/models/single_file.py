"""Single-file checkpoints, written without a converter of our own: diffusers' converter for reading, turned around by probing it.

Each tensor of the file is handed to that converter as a column of row numbers. What comes out says, of each row of each of diffusers'
tensors, which row of which tensor of the file it is, so a change can be put back where it belongs.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.delta import is_rounded
from expunge.models.quiet import quiet

ROWS = 1 << 26
"""More rows than any tensor has: tensor i's row r is numbered ROWS i + r, exactly in float64."""

AVERAGES = "model_ema."
"""Begins the names of a second copy of the network in checkpoints of Stable Diffusion 1."""


class Rows(NamedTuple):
    """The rows of a tensor in a file that some rows of a network's tensor are."""

    tensor: str
    theirs: Int[Tensor, " rows"]
    ours: Int[Tensor, " rows"]


Place = Mapping[str, list[Rows]]
"""Where each of the network's tensors lies in a file."""


def patched(model: DiffusionModel, tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict:
    """A checkpoint's tensors with the network's change from `before` to `after` in it, each in its own precision.

    A second copy of the network, averaged over training, is left out: it would still have the concept.

    Raises:
        ExpungeError: diffusers cannot read such a file; it is of another model; a changed tensor has no place in it.
    """
    where = places(model, {name: tensor.shape for name, tensor in tensors.items()})
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(AVERAGES)}
    own: set[str] = set()
    for name, value in after.items():
        if name not in where:
            raise ExpungeError(
                f"The changed tensor {name} has no place in the file.",
                rule="no-place-in-file",
                value=name,
                hint="Try the checkpoint that the base model was made from.",
            )
        for tensor, theirs, ours in where[name]:
            if tensor not in own:
                own.add(tensor)
                found[tensor] = found[tensor].clone()
            target = found[tensor]
            shape = len(ours), *target.shape[1:]
            if not is_rounded(target[theirs].float(), before[name][ours].reshape(shape).float()):
                raise ExpungeError(
                    f"The tensor {tensor} of the file is not {name} of {model.name}.",
                    rule="file-of-another-model",
                    value=tensor,
                    hint="Try the checkpoint that the base model was made from.",
                )
            target[theirs] = value[ours].reshape(shape).to(target.dtype)
    return found


def places(model: DiffusionModel, shapes: Mapping[str, tuple[int, ...]]) -> Place:
    """Where the network's tensors lie in a file with tensors of these names and shapes.

    Raises:
        ExpungeError: diffusers reads no such file for this network.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if not shapes.keys().isdisjoint(dict(model.network.named_parameters())):  # a file in diffusers' own names
        return {name: [Rows(name, torch.arange(s[0]), torch.arange(s[0]))] for name, s in shapes.items() if s}
    kind = type(model.network).__name__
    if kind not in SINGLE_FILE_LOADABLE_CLASSES:
        raise ExpungeError(
            f"No {kind} can be read from a single file by diffusers.",
            rule="no-single-file",
            value=kind,
            hint="Try `expunge merge RUN FOLDER`, or a LoRA file.",
        )
    network: Any = model.network
    return probe(SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"], shapes, dict(network.config), model.name)


def probe(convert: Any, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], name: str = "the model") -> Place:
    """Where what `convert` makes of a file lies in it.

    Raises:
        ExpungeError: the converter cannot read such a file, or finds nothing in it.
    """
    names = [n for n, shape in shapes.items() if len(shape)]
    columns = {
        n: (torch.arange(shapes[n][0], dtype=torch.float64) + ROWS * i).reshape(-1, *[1] * (len(shapes[n]) - 1))
        for i, n in enumerate(names)
    }
    try:
        with quiet():
            found = convert(checkpoint=columns, config=config)
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise _unread(name, error) from error
    if not found:
        raise _unread(name, "it finds no network there")
    return {n: list(_rows(names, column)) for n, column in found.items() if isinstance(column, Tensor) and column.ndim}


def _rows(names: list[str], column: Tensor) -> Iterator[Rows]:
    numbers = column.reshape(column.shape[0], -1)[:, 0].long()
    tensors, rows = numbers // ROWS, numbers % ROWS
    for i in tensors.unique().tolist():
        ours = (tensors == i).nonzero().flatten()
        yield Rows(names[i], rows[ours], ours)


def _unread(name: str, reason: object) -> ExpungeError:
    return ExpungeError(
        f"The file is no checkpoint of {name} that diffusers can read: {' '.join(str(reason).split())}.",
        rule="unreadable-checkpoint",
        value=name,
        hint="Try the checkpoint that the base model was made from.",
    )
