"""A copy of the package's source whose digests count for the package's own, so that a test can edit it."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from expunge.storage import code

SOURCE = code.PACKAGE


def copied(folders: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The copy, for a fixture to yield."""
    package = _copy(folders.getbasetemp())
    monkeypatch.setattr(code, "_said", _said)
    monkeypatch.setattr(code, "PACKAGE", package)
    forget()
    yield package
    _put_back(package)
    forget()


@cache
def _copy(folder: Path) -> Path:
    """Made once for all tests: a copy for each would be most of the files that tests write."""
    return Path(shutil.copytree(SOURCE, folder / "copied" / "expunge", ignore=_other_files))


def _put_back(package: Path) -> None:
    for file in package.rglob("*.py"):
        if not (own := SOURCE / file.relative_to(package)).exists():
            file.unlink()
        elif (source := own.read_bytes()) != file.read_bytes():
            file.write_bytes(source)


_said = cache(code._said)
"""Most files of all copies are the same: each is parsed once."""


def _other_files(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())]


def forget() -> None:
    """What a new process would not know either."""
    for known in (code._own_module, code._parsed, code._own_digest):
        known.cache_clear()


def edit(*files: Path) -> None:
    """Changes the code of some files, as a new process would find it."""
    for file in files:
        file.write_text(file.read_text() + "\nEDITED = True\n")
    forget()
