"""JSON files that may lack keys: what is missing is None or empty, what is broken is an error."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.storage.files import inside


def find_file(folder: Path, name: str) -> Path | None:
    """A file of a folder by its relative name, or None if there is none.

    Raises:
        ExpungeError: it is a link that leads out of the folder.
    """
    path = inside(folder, name)
    return path if path.is_file() else None


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        ExpungeError: the file cannot be read, or holds something else.
    """
    return _parse(_text_of(file), file, dict)


def read_list(file: Path) -> list[Any]:
    """The JSON list of a file.

    Raises:
        ExpungeError: the file cannot be read, or holds something else.
    """
    return _parse(_text_of(file), file, list)


def read_lines(file: Path, *, cut_short: bool = False) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line. With `cut_short` a broken last line, which a killed process leaves, is skipped.

    Raises:
        ExpungeError: the file cannot be read, or a line is no JSON object.
    """
    lines = [line for line in _text_of(file).splitlines() if line.strip()]
    if cut_short and lines:
        try:
            json.loads(lines[-1])
        except ValueError:
            lines.pop()
    return [_parse(line, file, dict) for line in lines]


def as_text(value: Any) -> str | None:
    """Any value but None and "" as text."""
    return None if value is None or value == "" else str(value)


def as_texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text; empty for anything else."""
    if isinstance(value, str):
        return (value,)
    return tuple(str(v) for v in value) if isinstance(value, Sequence) else ()


def as_table(value: Any) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def as_tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The JSON objects of a list; empty for anything else."""
    return tuple(v for v in value if isinstance(v, Mapping)) if isinstance(value, Sequence) else ()


def as_number(value: Any) -> float | None:
    """A finite number, or None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def as_float(value: Any) -> float:
    """A finite number, or not-a-number."""
    number = as_number(value)
    return math.nan if number is None else float(number)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parse(text: str, file: Path, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _broken(file, f"is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise _broken(file, f"holds {text[:40]!r}, not a JSON {'object' if kind is dict else 'list'}")
    return value


def _broken(file: Path, reason: str) -> ExpungeError:
    return ExpungeError(f"{file} {reason}.", rule="broken-file", value=str(file), hint="Try to make the run, or its evaluation, again.")
