"""A content-addressed store: what was computed once from the same inputs is read, never computed again.

A key is a hash of everything that the value depends on, so entries are never stale; the folder may be deleted at any time.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from expunge.types import ExpungeError


def digest(*parts: object) -> str:
    """A stable name for JSON-able parts: 32 hexadecimal digits.

    >>> digest("a", 1) == digest("a", 1) != digest("a", 2)
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which becomes `path` at the end: a reader sees the old file or the whole new one, never half.

    Raises:
        ExpungeError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise ExpungeError(
            f"a file is written into a writable folder: {path.parent}: {error.strerror}; choose another with --out"
        ) from error
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        with beside.open("rb") as file:  # opened anew, since a writer may have put another file in its place
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExpungeError(f"a file is written whole: {path}: {reason}; free some space or choose another folder") from error
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; see `written_whole`."""
    with written_whole(path) as beside:
        beside.write_bytes(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes safetensors atomically. The same tensors give the same bytes, as do those with one key of metadata."""
    with written_whole(path) as beside:  # straight from the tensors: as bytes in memory, a large model's would need their size again
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, beside, dict(metadata or {}))


def read_tensors(path: Path, remedy: str = "delete it and run again") -> dict[str, Tensor]:
    """Reads safetensors.

    Raises:
        ExpungeError: the file is missing, truncated or no safetensors file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExpungeError(f"tensors are read from a whole safetensors file: {path}: {error}; {remedy}") from error


@contextmanager
def taken(file: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has to itself what `file` stands for; with `wait` it has, sooner or later.

    The system gives a lock back when its process ends, however it ends. The file keeps a line for each that took it: process id and
    time.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        lock.write(f"{os.getpid()} {time.time():.0f}\n")
        lock.flush()
        yield True


def lying_at(text: str) -> list[tuple[str, int, int]]:
    """Name, size and time of the file, or of the folder's files, at a path; nothing where nothing lies. Other content is another thing."""
    path = Path(text).expanduser()
    files = sorted(f for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


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
