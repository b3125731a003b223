"""Files that are written whole or not at all, and paths that stay inside their folder."""

import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from expunge.errors import ExpungeError
from expunge.storage.places import writable_instead

STALE = 24 * 60 * 60
"""Seconds after which a temporary file is taken for one that a killed process left behind."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""Names of temporary files and folders; see `_temporary`."""


def inside(folder: Path, name: object) -> Path:
    """The path of a file that another file of `folder` names.

    A folder of results may come from someone else. Whatever it names is read, and may be shown on a page: use this for every path that
    is read from a file, so that no other file of this machine is.

    Raises:
        ExpungeError: `name` is no text, is the folder itself, or leads out of it, by "..", as an absolute path or by a symbolic link.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve() if isinstance(name, str) else root
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        path = root
    if path == root or not path.is_relative_to(root):
        raise ExpungeError(
            f"A file in {folder} names {name!r}, which is not a file inside that folder.",
            rule="path-escape",
            value=name,
            hint="Try getting the folder again from a source that you trust, or computing it again.",
        )
    return folder / str(name)


def inner_file(folder: Path, name: object) -> Path | None:
    """A file that another file of `folder` names; None if it is missing or not inside the folder.

    Use it instead of `inside` for what can be left out, such as an image on a page.
    """
    try:
        path = inside(folder, name)
    except ExpungeError:
        return None
    return path if path.is_file() else None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which becomes `path` at the end: a reader sees the old file or the whole new one, never half.

    The file has the permissions that the user's umask gives a new file.

    Raises:
        ExpungeError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _temporary(path)
        beside.touch(0o666, exist_ok=False)
        mode = stat.S_IMODE(beside.stat().st_mode)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        yield beside
        beside.chmod(mode)  # a writer may have put another file in its place
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise _unwritten(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to fill, which becomes `folder` at the end. `folder` must be new or empty.

    Raises:
        ExpungeError: the folder above cannot be written, or the disk is full; nothing is left behind.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = _temporary(folder)
        beside.mkdir()
    except OSError as error:
        raise _unwritten(folder, error) from error
    try:
        yield beside
        beside.replace(folder)
    except (OSError, SafetensorError) as error:
        raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; see `written_whole`."""
    with written_whole(path) as beside:
        beside.write_bytes(content)


def write_json(path: Path, value: object, indent: int | None = 1) -> None:
    """Writes a value as JSON, whole or not at all. NaN and infinity are written as Python's `json` does, as NaN and Infinity."""
    write_atomically(path, (json.dumps(value, indent=indent) + "\n").encode())


def write_lines(path: Path, rows: Iterable[object]) -> None:
    """Writes JSONL, a line for each row, whole or not at all."""
    write_atomically(path, "".join(_line(row) for row in rows).encode())


def append_line(path: Path, row: object) -> None:
    """Appends a row to JSONL. A process that is killed meanwhile may leave half a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def lying_at(text: str) -> list[tuple[str, int, int]]:
    """Name, size and time of the file, or of the folder's files, at a path; nothing where nothing lies. Other content is another thing."""
    path = Path(text).expanduser()
    files = sorted(f for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _line(row: object) -> str:
    return json.dumps(row) + "\n"


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that no process has used: what a killed one left behind is never taken for a part of the new file."""
    _clean(path.parent)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@cache
def _clean(folder: Path) -> None:
    """Removes what killed processes left in a folder, once in each process."""
    for left in folder.iterdir():
        with suppress(OSError):  # another process removes it too
            if _TEMPORARY.fullmatch(left.name) and time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _unwritten(path: Path, error: OSError | SafetensorError) -> ExpungeError:
    return ExpungeError(
        f"{path} could not be written: {getattr(error, 'strerror', None) or error}.",
        rule="unwritten",
        value=str(path),
        hint=writable_instead(path),
    )
