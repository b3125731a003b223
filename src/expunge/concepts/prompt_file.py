"""Reads a list of prompts from a file: CSV, JSON lines, or a text with one prompt on each line."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.concepts.csv_rows import read_rows
from expunge.errors import ExpungeError

COLUMNS = ("prompt", "seed", "guidance")
"""What is read of a row. Only a prompt is needed."""


@dataclass(frozen=True)
class ListedPrompt:
    """A prompt of a list, with what its row says of the image."""

    prompt: str
    seed: int | None = None
    """The seed of the image's noise; None: the row has none."""
    guidance: float | None = None
    """The scale of guidance; None: the row has none."""


def read_prompts(path: Path, columns: Mapping[str, str]) -> tuple[ListedPrompt, ...]:
    """The prompts of a file, in its order.

    Args:
        path: ends in `.csv` or `.tsv` (see `read_rows`), `.jsonl` (an object on each line), or `.txt` (a prompt on each line). Other
            forms, such as pickles and Parquet, are refused: a pickle can run code, and Parquet needs a library that is no requirement.
        columns: by name of `COLUMNS`, the file's own name of the column, in any case. An entry whose column the file lacks is refused.

    Raises:
        ExpungeError: rule "unreadable-prompts", no such file, another form, or a broken line; "no-prompts", it has none; "prompt-cell",
            a seed or a scale is no number; as of `read_rows`.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ExpungeError(
            f"{path} has the form {path.suffix or 'of no ending'!r}, which is not read as a list of prompts.",
            rule="unreadable-prompts",
            value=str(path),
            hint="Try to save it as CSV (.csv) or JSON lines (.jsonl).",
        )
    wanted = {name: column.lower() for name, column in {"prompt": "prompt", **columns}.items()}
    try:
        prompts = tuple(_prompt(where, row, wanted) for where, row in reader(path, wanted))
    except (OSError, ValueError) as error:
        raise ExpungeError(
            f"{path} cannot be read as a list of prompts: {error}.",
            rule="unreadable-prompts",
            value=str(path),
            hint="Try to save it again, in UTF-8.",
        ) from error
    if not prompts:
        raise ExpungeError(f"{path} has no prompts.", rule="no-prompts", value=str(path), hint="Try a file with a row for each prompt.")
    return prompts


def _prompt(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> ListedPrompt:
    seed, guidance = (row.get(columns[name], "") if name in columns else "" for name in COLUMNS[1:])
    try:
        return ListedPrompt(
            str(row[columns["prompt"]]),
            None if seed in ("", None) else int(seed),
            None if guidance in ("", None) else float(guidance),
        )
    except (TypeError, ValueError) as error:
        raise ExpungeError(
            f"{where} has a seed or a scale of guidance that is no number: {seed!r}, {guidance!r}.",
            rule="prompt-cell",
            value=(seed, guidance),
            hint="Try a whole number as the seed and a number as the scale, or leave the column out.",
        ) from error


def _csv_rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    names = tuple(columns.values())
    yield from read_rows(path, names, names)


def _json_rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        named = {str(key).lower(): value for key, value in row.items()} if isinstance(row, dict) else {}
        if lacking := [column for column in columns.values() if column not in named]:
            raise ValueError(f"line {number} has no {lacking[0]!r}")
        yield f"Line {number} of {path}", named


def _text_rows(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            yield f"Line {number} of {path}", {columns["prompt"]: line.strip()}


READERS: dict[str, Callable[[Path, Mapping[str, str]], Iterator[tuple[str, Mapping[str, Any]]]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _json_rows,
    ".txt": _text_rows,
}
