"""What the cache holds, by size and age, and which of it to delete. Everything in it can be computed again. Needs no torch."""

import json
import os
import re
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ByteSize, TypeAdapter, ValidationError

from expunge.errors import ExpungeError

KINDS = {
    "latents": "images of the base model, before they are decoded: training banks",
    "trajectories": "points that the base model visits while it samples, and its predictions there: training banks",
    "predictions": "what a model predicts at fixed points: measurements of information, attacks",
    "pictures": "sampled images: evaluations and audits",
    "audits": "results of attacks on controls",
    "outlines": "shapes and settings of models that were priced: dry runs",
}
"""The kinds of cache entries, and what uses them."""

LIMIT = "EXPUNGE_CACHE_LIMIT"
"""The environment variable with the largest size of the cache, such as 20GB; not set: no limit."""

SHOWS = "shows"
"""The key in the header of a cached file under which it has the prompts of its images."""

HEADER = 1 << 20
"""Bytes: the header of a cached safetensors file is far shorter."""

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""Seconds in the units of an age."""


@dataclass(frozen=True)
class Entry:
    """A file of the cache."""

    path: Path
    kind: str
    size: int
    """Bytes."""
    used: float
    """When it was last read or written, in seconds since 1970, as far as the file system records it."""


def size_limit() -> int | None:
    """The bytes of `$EXPUNGE_CACHE_LIMIT`; None if it is not set.

    Raises:
        ExpungeError: its value is not a size.
    """
    text = os.environ.get(LIMIT)
    return read_size(text, LIMIT) if text else None


def read_size(text: str, name: str) -> int:
    """A size such as "20GB", "512MiB" or "0", in bytes.

    Raises:
        ExpungeError: `text` is not a size; the error calls it `name`.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except (ValidationError, OverflowError):
        raise ExpungeError(f"{name} is {text!r}, which is not a size.", rule="size", value=text, hint="Try 20GB, 512MiB or 0.") from None


def read_age(text: str, name: str) -> float:
    """An age such as "30d", "12h" or "2w", in seconds.

    Raises:
        ExpungeError: `text` is not an age; the error calls it `name`.
    """
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([mhdw])", text.strip())):
        raise ExpungeError(
            f"{name} is {text!r}, which is not an age.",
            rule="age",
            value=text,
            hint="Try 30d, 12h or 2w (minutes m, hours h, days d, weeks w).",
        )
    return float(found[1]) * UNITS[found[2]]


def entries(root: Path) -> list[Entry]:
    """The files of the cache, the least recently used first; none where there is no such folder. Fingerprints and locks are left out:
    they take no space."""
    found = [(path, None) for path in root.glob("[0-9a-f][0-9a-f]/*.safetensors")]
    places = {"pictures": "*", "audits": "*", "outlines": "*/*"}
    named = [(path, kind) for kind, place in places.items() for path in (root / kind).glob(place) if path.is_file()]
    made = [_entry(path, kind) for path, kind in (*found, *named)]
    return sorted((e for e in made if e), key=lambda entry: (entry.used, entry.path))


def _entry(path: Path, kind: str | None) -> Entry | None:
    """A file as an entry; None if another process has deleted it meanwhile."""
    with suppress(FileNotFoundError):
        about = path.stat()
        return Entry(path, kind or _kind_of(path), about.st_size, max(about.st_atime, about.st_mtime))
    return None


def _kind_of(path: Path) -> str:
    """The kind of a file of tensors, by their names."""
    names = _header(path).keys()
    return "trajectories" if "x_t" in names else "latents" if "x_0" in names else "predictions"


def prompts_of(path: Path) -> list[str] | None:
    """The prompts of the images that a cached file of tensors is or is about; None if it does not say."""
    try:
        found = json.loads(_header(path)["__metadata__"][SHOWS])
    except (KeyError, TypeError, ValueError):
        return None
    return [str(prompt) for prompt in found] if isinstance(found, list) else None


def _header(path: Path) -> dict[str, Any]:
    """The header of a file of tensors; empty if it cannot be read."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(min(length, HEADER)))
        return found if isinstance(found, dict) else {}
    return {}


def select(
    found: Sequence[Entry], *, older_than: float | None = None, max_size: int | None = None, keep: Collection[str] = (), now: float
) -> list[Entry]:
    """The entries to delete.

    Args:
        found: All entries, the least recently used first.
        older_than: Seconds; what was not used for longer is deleted.
        max_size: Bytes; then the least recently used are deleted until the rest takes no more.
        keep: Kinds that are never deleted. They count towards `max_size`.
        now: The present time, in seconds since 1970.
    """
    may = [e for e in found if e.kind not in keep]
    chosen = [e for e in may if older_than is not None and now - e.used > older_than]
    left = sum(e.size for e in found) - sum(e.size for e in chosen)
    for entry in may if max_size is not None else ():
        if left <= max_size:  # type: ignore[operator]
            break
        if entry not in chosen:
            chosen.append(entry)
            left -= entry.size
    return chosen


def delete(chosen: Iterable[Entry]) -> int:
    """Deletes entries; returns the bytes that were freed.

    A process that reads one meanwhile computes it again.

    Raises:
        ExpungeError: a file cannot be deleted.
    """
    freed = 0
    for entry in chosen:
        try:
            entry.path.unlink()
        except FileNotFoundError:  # another process was first
            continue
        except OSError as error:
            raise ExpungeError(
                f"{entry.path} cannot be deleted: {error.strerror}.",
                rule="undeleted",
                value=str(entry.path),
                hint="Try as the user who owns the cache.",
            ) from error
        freed += entry.size
    return freed


def keep_within(root: Path, limit: int | None) -> None:
    """Deletes the least recently used entries until the cache takes no more than `limit` bytes; None for no limit."""
    if limit is not None:
        delete(select(entries(root), max_size=limit, now=time.time()))
