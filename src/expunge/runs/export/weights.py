"""Files of weights in a folder, written again with other values and otherwise as they are: same names, shards and precision."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from expunge.models.delta import is_rounded
from expunge.storage.files import write_json
from expunge.storage.json_files import as_table, read_object
from expunge.storage.tensors import write_tensors


def rewrite(file: Path, target: Path, values: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Writes a safetensors file again with `values` for some of its tensors, each in the precision of the one that it replaces.

    Args:
        dtype: of every tensor of real numbers, instead of its own.
    """
    with safe_open(file, "pt") as old:
        tensors = {}
        for name in old.keys():  # noqa: SIM118 - the file is no dictionary
            tensor = old.get_tensor(name)
            kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            tensors[name] = values.get(name, tensor).to(kind)
        metadata = old.metadata()
    write_tensors(target, tensors, metadata)


def variants(folder: Path) -> list[list[Path]]:
    """The files of weights in a folder that belong together: the shards of each precision, or a file alone."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found.setdefault(re.sub(r"-\d+-of-\d+", "", file.name), []).append(file)
    return list(found.values())


def hold(files: Sequence[Path], values: Mapping[str, Tensor]) -> bool:
    """Whether files hold all of these tensors, with these values or their roundings to half precision."""
    wanted = dict(values)
    for file in files:
        with safe_open(file, "pt") as old:
            for name in wanted.keys() & set(old.keys()):
                if not is_rounded(old.get_tensor(name).float(), wanted.pop(name).float()):
                    return False
    return not wanted


def write_indices(folder: Path, target: Path) -> None:
    """Copies the lists of shards whose shards are all in `target`, with the size that these have there."""
    for file in folder.glob("*.index*.json"):
        table = read_object(file)
        shards = {target / str(name) for name in as_table(table.get("weight_map")).values()}
        if not all(shard.is_file() for shard in shards):
            continue
        size = sum(_size(shard) for shard in shards)
        if as_table(table.get("metadata")).get("total_size") == size:
            (target / file.name).write_bytes(file.read_bytes())
        else:
            write_json(target / file.name, table | {"metadata": {**as_table(table.get("metadata")), "total_size": size}}, 2)


def _size(file: Path) -> int:
    """Bytes of a file's tensors, by its header."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(tensor["data_offsets"][1] - tensor["data_offsets"][0] for name, tensor in header.items() if name != "__metadata__")
