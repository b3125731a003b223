"""A content-addressed store: what was computed once from the same inputs is read, never computed again.

A key is a hash of everything that the value depends on, so entries are never stale; the folder may be deleted at any time.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from expunge.storage.tensors import write_tensors


@dataclass(frozen=True)
class Store:
    """A folder of tensors by key."""

    root: Path

    @classmethod
    def default(cls) -> "Store":
        """`$EXPUNGE_CACHE`, else `~/.cache/expunge`."""
        return cls(Path(os.environ.get("EXPUNGE_CACHE", Path.home() / ".cache" / "expunge")))

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The value, or None. A file that was cut short counts as absent: everything here can be computed again."""
        try:
            return load_file(self.path(key)) if key in self else None
        except (OSError, SafetensorError):
            return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        write_tensors(self.path(key), tensors)
