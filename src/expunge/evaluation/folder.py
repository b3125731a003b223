"""Reads the folder `evaluation/` of a run: rows, pairs of images, and their settings. Imports no torch.

What is missing is None or empty, so that an incomplete evaluation can be shown. A broken file is an error, because a table that lacks rows
without notice misleads.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.evaluation.results import Row
from expunge.storage.files import inner_file
from expunge.storage.json_files import as_number, as_table, as_tables, as_text, as_texts, find_file, read_lines, read_list, read_object

FOLDER = "evaluation"

_ABSENT: Mapping[str, Any] = {
    "method": "", "concept": "", "seed": 0, "probe": "", "value": math.nan, "ci_low": math.nan, "ci_high": math.nan, "n": 0,
}  # fmt: skip
"""Defaults of the fields that a line does not have."""


@dataclass(frozen=True)
class ImagePair:
    """The images of the base model and of the unlearned model from one prompt and one noise."""

    probe: str
    prompt: str
    seed: int | None
    """The index among the prompt's images."""
    base: Path | None
    """None if the file is missing, or not inside the folder of the run."""
    unlearned: Path | None
    wanted: Mapping[str, str]
    """What the prompt asks for, by kind."""
    seen_base: Mapping[str, str]
    """The judge's labels of the base model's image, by kind; empty without a judge."""
    seen: Mapping[str, str]
    """The judge's labels of the unlearned model's image."""
    concept: str = ""
    """The concept to which the prompt belongs; empty for a run of one concept."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run."""

    rows: tuple[Row, ...]
    pairs: tuple[ImagePair, ...]
    judge: str | None
    sampler: Mapping[str, Any]
    protocol: Mapping[str, Any]
    """The number of images of each prompt."""
    seconds: float | None
    notes: tuple[str, ...]
    judges: tuple[Mapping[str, Any], ...] = ()
    """Each judge's `name`, `weights`, and `error_rates` on the base model's images: for each `concept`, `false_negative` and
    `false_positive`, each a table of `value`, `low`, `high` and `n`, or None without such images."""


def read_evaluation(run: Path) -> Evaluation | None:
    """The evaluation in a run's folder, or None if the run was not evaluated.

    Raises:
        ExpungeError: a file is broken, or a link out of the run's folder.
    """
    if (rows := find_file(run, f"{FOLDER}/rows.jsonl")) is None:
        return None
    about, listed = find_file(run, f"{FOLDER}/evaluation.json"), find_file(run, f"{FOLDER}/pictures.json")
    settings = read_object(about) if about else {}
    return Evaluation(
        read_rows_file(rows),
        tuple(_pair(as_table(entry), run) for entry in read_list(listed)) if listed else (),
        as_text(settings.get("judge")),
        as_table(settings.get("sampler")),
        as_table(settings.get("protocol")),
        as_number(settings.get("seconds")),
        as_texts(settings.get("notes")),
        tuple(as_tables(settings.get("judges"))),
    )


def read_rows_file(file: Path) -> tuple[Row, ...]:
    """The rows of a `rows.jsonl`. A number that a line does not give is not-a-number.

    Raises:
        ExpungeError: a line is broken; see `row_from`.
    """
    return tuple(row_from(line, file) for line in read_lines(file))


def row_from(line: Mapping[str, Any], file: Path) -> Row:
    """A row from a JSON object of a file. A number that it does not give is not-a-number.

    Raises:
        ExpungeError: it names no run or no metric, or its interval does not hold its value.
    """
    if lacks := [key for key in ("run", "metric") if key not in line]:
        raise ExpungeError(
            f"A line of {file} has no {lacks[0]!r}.", rule="broken-row", value=lacks[0], hint="Try to evaluate the run again."
        )
    values = dict(_ABSENT)
    for field in fields(Row):
        value = line.get(field.name)
        if field.type in (float, float | None):
            value = as_number(value)
        elif field.type in (int, int | None):
            number = as_number(value)
            value = None if number is None else int(number)
        else:
            value = as_text(value)
        if value is not None:
            values[field.name] = value
    try:
        return Row(**values)
    except ValueError as error:
        raise ExpungeError(
            f"A row of {file} is inconsistent: {error}.", rule="broken-row", value=values["metric"], hint="Try to evaluate the run again."
        ) from error


def _pair(entry: Mapping[str, Any], run: Path) -> ImagePair:
    seed = as_number(entry.get("seed"))
    return ImagePair(
        probe=as_text(entry.get("probe")) or "",
        prompt=str(entry.get("prompt") or ""),
        seed=None if seed is None else int(seed),
        base=_image(run, entry.get("base")),
        unlearned=_image(run, entry.get("unlearned")),
        wanted=_labels(entry.get("wanted")),
        seen_base=_labels(entry.get("seen_base")),
        seen=_labels(entry.get("seen")),
        concept=as_text(entry.get("concept")) or "",
    )


def _image(run: Path, name: Any) -> Path | None:
    return inner_file(run, f"{FOLDER}/{name}") if isinstance(name, str) and name else None


def _labels(value: Any) -> Mapping[str, str]:
    return {str(kind): str(label) for kind, label in as_table(value).items() if label is not None}
