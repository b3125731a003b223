"""Stable names for what decides a result, and seeds derived from them."""

import hashlib
import json
from pathlib import Path
from typing import NoReturn


def digest(*parts: object) -> str:
    """A stable name for JSON-able parts: 32 hexadecimal digits.

    >>> digest("a", 1) == digest("a", 1) != digest("a", 2)
    True

    Raises:
        TypeError: a part that JSON does not hold. Its `str` may be the same for two values, or another for the same.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_refuse).encode()).hexdigest()[:32]


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"a digest is of texts, numbers, lists and tables: {value!r} is a {type(value).__name__}; name what tells it apart")


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seed_of(*parts: object) -> int:
    """A seed that is a function of `parts`: streams of different names are independent."""
    return int(digest(*parts)[:15], 16)
