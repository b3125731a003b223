"""SHA-256 digests of the files behind a record, and their check."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expunge.storage.hashing import sha256_of

RECORD = "record"
"""The stem of the files of a record in a run's folder, which cannot hold their own digests."""


@dataclass(frozen=True)
class Difference:
    """A file that is not as the record says."""

    part: str
    """run, base, merged or data."""
    file: str
    what: Literal["changed", "missing", "new"]


def digests_of(folder: Path) -> dict[str, str]:
    """The digest of every file of a folder by its relative name, without hidden files and the record itself."""
    return {name: sha256_of(folder / name) for name in _files(folder)}


def compare_digests(part: str, folder: Path, recorded: Mapping[str, str]) -> list[Difference]:
    """What differs between a folder and the digests that a record has of it."""
    present = set(_files(folder))
    found = [Difference(part, name, "missing") for name in recorded if name not in present]
    found += [Difference(part, name, "changed") for name in recorded if name in present and sha256_of(folder / name) != recorded[name]]
    return found + [Difference(part, name, "new") for name in sorted(present - set(recorded))]


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        if name.as_posix() not in (f"{RECORD}.json", f"{RECORD}.html", "report.html"):
            yield name.as_posix()
