"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from expunge.errors import ExpungeError


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


def lying_at(text: str) -> list[tuple[str, int, int]]:
    """Name, size and time of the file, or of the folder's files, at a path; nothing where nothing lies. Other content is another thing."""
    path = Path(text).expanduser()
    files = sorted(f for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def inside(folder: Path, name: str | Path) -> Path | None:
    """The resolved path of `name` in `folder`, or None if it leads out of the folder.

    Folders that hold runs may come from other people, so a name that a file gives is never followed blindly: absolute paths, `..` and
    symbolic links that lead out of the folder are refused. The path need not exist.
    """
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null character
        return None
