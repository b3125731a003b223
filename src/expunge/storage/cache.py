"""A content-addressed store: what was computed once from the same inputs is read, never computed again.

A key is a hash of everything that the value depends on, so entries are never stale; the folder may be deleted at any time.
"""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from expunge.storage.places import default_root
from expunge.storage.pruning import SHOWS, keep_within, size_limit
from expunge.storage.tensors import write_tensors


@dataclass(frozen=True)
class Store:
    """A folder of tensors by key."""

    root: Path
    limit: int | None = field(default_factory=size_limit)
    """Bytes that the folder may take: when more is stored, what was used least recently is deleted. None: no limit."""

    @classmethod
    def default(cls) -> "Store":
        """`$EXPUNGE_CACHE`, else `~/.cache/expunge`."""
        return cls(default_root())

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The value, or None. A file that was cut short counts as absent: everything here can be computed again."""
        path = self.path(key)
        try:
            found = load_file(path) if path.exists() else None
        except (OSError, SafetensorError):
            return None
        with suppress(OSError):  # of a folder that may only be read
            os.utime(path)  # when it was used decides what is deleted first
        return found

    def put(self, key: str, tensors: Mapping[str, Tensor], shows: Collection[str] | None = None) -> None:
        """Stores a value.

        Args:
            shows: the prompts of the images that it is, or is about, by which `expunge purge` finds it. None: unknown, so that it is
                deleted with any concept's.
        """
        write_tensors(self.path(key), tensors, None if shows is None else {SHOWS: json.dumps(sorted(set(shows)))})
        keep_within(self.root, self.limit)
