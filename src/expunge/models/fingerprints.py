"""Fingerprints of weights that were loaded from files, computed once for the files."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from expunge.models.weight_files import read_header, tensors_of
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest
from expunge.storage.tensors import fingerprint_of


def kept_fingerprint(files: Sequence[Path], compute: Callable[[], str], form: str = "") -> str:
    """The fingerprint of what was loaded from `files`. It is kept under their paths, sizes and times, for hashing the tensors of a large
    model takes a minute. Without files it is computed.

    Args:
        form: what the weights were brought to before they are hashed, such as a precision; empty for as the files have them.
    """
    if (found := known_fingerprint(files, form)) is None:
        found = compute()
        if files:
            write_atomically(_place(files, form), found.encode())
    return found


def known_fingerprint(files: Sequence[Path], form: str = "") -> str | None:
    """The fingerprint that is kept for `files` as they are now; None if there is none."""
    if not files:
        return None
    try:
        found = _place(files, form).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return found if re.fullmatch("[0-9a-f]{32}", found) else None


def _place(files: Sequence[Path], form: str) -> Path:
    stats = [(str(file), file.stat()) for file in files]
    named = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return Store.default().root / "fingerprints" / digest(named, *([form] if form else []))


def fingerprint_of_files(parts: Iterable[tuple[nn.Module, Sequence[Path]]], whole: Callable[[nn.Module], nn.Module]) -> str:
    """What `fingerprint` gives for the parts as their files have them, whatever precision the parts are in now.

    A model is the same model in every precision. Tensors are read one at a time, so that no part is in memory in float32.

    Args:
        parts: networks, and the files that each was loaded from.
        whole: loads a part again in float32. It is called for those whose files name tensors otherwise than the network does.
    """

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for part, files in parts:
            names = names_in_files(part, files)
            yield from sorted(whole(part).state_dict().items()) if names is None else tensors_of(files, names)

    return fingerprint_of(tensors())


def names_in_files(part: nn.Module, files: Sequence[Path]) -> dict[str, str] | None:
    """The name in the files of each tensor of a part, in alphabetic order; None if the files lack one or have it in another shape.

    Of tensors that share their memory the files need hold only one.
    """
    stored = {name: one.shape for file in files for name, one in read_header(file).items()}
    state: dict[str, Any] = part.state_dict()
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        alike.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    found = {}
    for name, tensor in sorted(state.items()):
        shape = tuple(tensor.shape)
        same = [name, *alike[tensor.data_ptr(), shape]]
        match = next((n for n in same if stored.get(n) == shape), None)
        if match is None:
            return None
        found[name] = match
    return found
