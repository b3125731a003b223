"""The safetensors files of a model's parts: which belong to a variant, whether they are whole, and their tensors one by one.

Needs no torch until a tensor is read.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError

POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS has yet to replace by its content."""

HEADER = 100 * 2**20
"""A longer header is refused by safetensors too."""

NAME = re.compile(
    r"^(?P<stem>(diffusion_pytorch_)?model)(\.(?P<variant>[^.]+?))?(-\d{5}-of-(?P<count>\d{5})(\.(?P<late>[^.]+))?)?\.safetensors$"
)


@dataclass(frozen=True)
class Stored:
    """One tensor as a file describes it."""

    dtype: str
    """By its name in the format: "F32", "BF16"."""
    shape: tuple[int, ...]
    octets: int


def variants_of(folder: Path) -> dict[str | None, list[Path]]:
    """The weight files of a part by their variant; None for those without. Files of other names, as `open_clip_model`, are left out."""
    found: dict[str | None, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        if match := NAME.match(file.name):
            found.setdefault(match["variant"] or match["late"], []).append(file)
    return found


def find_variant(folders: Sequence[Path], wanted: str | None) -> str | None:
    """The variant to read: the one `wanted`; or none, if every part has files without one; or else the only one that the parts have.

    Raises:
        ExpungeError: no part has the one that is wanted, or there are several to choose from.
    """
    each = [variants_of(folder) for folder in folders]
    named = sorted({v for variants in each for v in variants if v is not None})
    if wanted is not None:
        if wanted not in named:
            raise ExpungeError(
                f"{folders[0].parent} has no weights of the variant {wanted!r}.",
                rule="unknown-variant",
                value=wanted,
                hint=f"Try {' or '.join(named)}." if named else "Try without --model-variant.",
            )
        return wanted
    if all(None in variants for variants in each):
        return None
    fitting = [v for v in named if all(v in variants or None in variants for variants in each)]
    if len(fitting) > 1:
        raise ExpungeError(
            f"{folders[0].parent} has weights of the variants {', '.join(fitting)} and none without a variant.",
            rule="several-variants",
            value=fitting,
            hint=f"Try --model-variant {fitting[0]}.",
        )
    return fitting[0] if fitting else None


def files_of(folder: Path, variant: str | None) -> list[Path]:
    """The weight files of a part that are read for a variant: its own, or those without one.

    Raises:
        ExpungeError: there are none, a shard is missing, or a file is not whole.
    """
    found = variants_of(folder)
    files = found.get(variant) or found.get(None) or []
    if not files:
        raise no_weights(folder)
    whole = [f for f in files if not (m := NAME.match(f.name)) or not m["count"]]
    files = whole or files  # as diffusers chooses where a part is there in one file and in shards
    if match := NAME.match(files[0].name):
        count = int(match["count"] or 1)
        if len(files) < count:
            raise ExpungeError(
                f"{folder} has {len(files)} of the {count} files of its weights.",
                rule="missing-shard",
                value=str(folder),
                hint="Try to download or copy the model again.",
            )
    for file in files:
        read_header(file)
    return files


def no_weights(folder: Path) -> ExpungeError:
    """The error for a part without safetensors."""
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
    have = f"only {pickles[0]}, a pickle, which can run code when it is read" if pickles else "no weights"
    return ExpungeError(
        f"{folder} holds {have}.",
        rule="no-safetensors",
        value=str(folder),
        hint="Try to save the pipeline again with safe_serialization=True.",
    )


PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Suffixes of weights that are pickles."""


def refuse_pointer(file: Path) -> None:
    """Refuses a file whose content Git LFS has not fetched.

    Raises:
        ExpungeError: it is such a file.
    """
    with file.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise ExpungeError(
                f"{file} is a pointer of Git LFS, and the file itself was not fetched.",
                rule="lfs-pointer",
                value=str(file),
                hint="Try `git lfs pull` in the folder of the model.",
            )


def read_header(file: Path) -> dict[str, Stored]:
    """What a safetensors file holds, by name, without reading a tensor.

    Raises:
        ExpungeError: it is a pointer of Git LFS, was cut short, or is no safetensors file.
    """
    try:
        refuse_pointer(file)
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            entries = json.loads(stream.read(length)) if length <= HEADER else None
        size = file.stat().st_size
        described = {name: one for name, one in entries.items() if name != "__metadata__"}  # type: ignore[union-attr]
        end = 8 + length + max((one["data_offsets"][1] for one in described.values()), default=0)
        header = {
            n: Stored(one["dtype"], tuple(one["shape"]), one["data_offsets"][1] - one["data_offsets"][0]) for n, one in described.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ExpungeError(
            f"{file} cannot be read as a safetensors file. It may have been cut short.",
            rule="unreadable-weights",
            value=str(file),
            hint="Try to download or copy it again.",
        ) from error
    if size < end:
        raise ExpungeError(
            f"{file} was cut short: it has {size:,} of {end:,} bytes.",
            rule="cut-weights",
            value=str(file),
            hint="Try to download or copy it again.",
        )
    return header


def tensors_of(files: Sequence[Path], names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Reads tensors one at a time, on the CPU, in the precision of the files.

    Args:
        names: the name of each tensor in the files, by the name that it is yielded under, in the order of reading.
    """
    from safetensors import safe_open

    place = {name: file for file in files for name in read_header(file)}
    opened = {file: safe_open(file, "pt") for file in files}
    for name, stored in names.items():
        yield name, opened[place[stored]].get_tensor(stored)
