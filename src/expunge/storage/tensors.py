"""Tensors in safetensors files, and hashes of their values."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.storage.files import written_whole


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes safetensors atomically. The same tensors give the same bytes, as do those with one key of metadata."""
    with written_whole(path) as beside:  # straight from the tensors: as bytes in memory, a large model's would need their size again
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, beside, dict(metadata or {}))


def read_tensors(path: Path, remedy: str = "deleting it and running again") -> dict[str, Tensor]:
    """Reads safetensors.

    Args:
        remedy: what the error's hint says after "Try".

    Raises:
        ExpungeError: the file is missing, truncated or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExpungeError(
            f"{path} cannot be read as a safetensors file: {error}.",
            rule="unreadable-tensors",
            value=str(path),
            hint=f"Try {remedy}.",
        ) from error


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file that can be read."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def fingerprint(*modules: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all parameters: 32 hexadecimal digits that tell one base model from another.

    Values enter as float32, so half-precision weights have one fingerprint in float32 and in half precision; rounding changes it.
    """
    return fingerprint_of(entry for module in modules for entry in sorted(module.state_dict().items()))


def fingerprint_of(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The same over tensors by name, module after module, each module's in alphabetic order."""
    state = hashlib.sha256()
    for name, tensor in tensors:
        state.update(f"{name}{tuple(tensor.shape)}".encode())
        state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return state.hexdigest()[:32]


def content(values: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values of changed tensors, which tells one delta from another."""
    state = hashlib.sha256()
    for name in sorted(values):
        state.update(name.encode())
        state.update(values[name].contiguous().numpy().data)
    return state.hexdigest()
