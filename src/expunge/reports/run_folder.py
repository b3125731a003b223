"""Reads run folders into values: what was done (`card.json`), how it went (`log.jsonl`), what was measured (`evaluation/`).

Tolerant of what is absent, because a report of half a run is still of use: a missing key is None, a missing file is empty.
What is present but broken is an error, because a table that silently lacks rows lies.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

BASE = "base"
"""The run id of the untouched model."""


@dataclass(frozen=True)
class Row:
    """One measured number, as `evaluation/rows.jsonl` has it; not-a-number where a line gives none."""

    run: str
    probe: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int | None
    attack: str = "none"
    judge: str = "main"
    concept: str = ""


@dataclass(frozen=True)
class Picture:
    """One prompt, from one noise, drawn by the untouched and by the unlearned model."""

    probe: str
    prompt: str
    seed: int | None
    """Which of the prompt's pictures."""
    base: Path | None
    unlearned: Path | None
    wanted: Mapping[str, str]
    """What the prompt asks for, by kind."""
    seen_base: Mapping[str, str]
    """What the judge saw in the untouched model's picture; empty where nobody judged."""
    seen: Mapping[str, str]
    concept: str = ""
    """Which of several it was drawn for; empty where a run has one."""


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    step: int
    loss: float
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Target:
    """One of several concepts of a run."""

    target: str
    kind: str | None
    synonyms: tuple[str, ...]
    anchor: str | None


@dataclass(frozen=True)
class Card:
    """What `card.json` says of a run. None, or empty, where it is silent."""

    id: str
    status: str | None
    error: str | None
    method: str | None
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    scope: str | None
    target: str | None
    kind: str | None
    synonyms: tuple[str, ...]
    """Other names that were given as targets too."""
    anchor: str | None
    model: str | None
    fingerprint: str | None
    family: str | None
    seed: int | None
    versions: Mapping[str, Any]
    device: str | None
    dtype: str | None
    seconds: float | None
    peak_memory_bytes: float | None
    trainable: float | None
    total: float | None
    forwards: float | None
    backwards: float | None
    relative_change: float | None
    targets: tuple[Target, ...] = ()
    """Where there are several."""
    stages: tuple[tuple[str, str], ...] = ()
    """Where it was made in stages, the run that each is and what it is of: a concept of several, a method of several, or both."""
    before: tuple[Mapping[str, Any], ...] = ()
    """Methods that went first, each with its settings in `method` and `training`."""
    beside: tuple[str, ...] = ()
    """The other concepts of the run, where it is shown as the run of one."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...]
    judge: str | None
    sampler: Mapping[str, Any]
    protocol: Mapping[str, Any]
    """How many pictures of each prompt."""
    seconds: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One run folder."""

    folder: Path
    card: Card
    config: str
    """The text of `config.toml`."""
    steps: tuple[Step, ...] = field(repr=False)
    evaluation: Evaluation | None
    part: int = 0
    """Which of several concepts it is shown for."""


def read(folder: Path) -> Run:
    """Reads one run folder.

    Raises:
        ExpungeError: no `card.json`; a file that is not what its name says.
    """
    if not (folder / "card.json").is_file():
        refuse(f"a run is a folder with a card.json: {folder} has none; give a folder that `expunge unlearn` wrote")
    config = folder / "config.toml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return Run(
        folder, _card(read_json(folder / "card.json"), folder.name), text, _steps(folder / "log.jsonl"), _evaluation(folder / "evaluation")
    )


def _card(card: Mapping[str, Any], name: str) -> Card:
    concept, model = _table(card.get("concept")), _table(card.get("model"))
    targets = tuple(_target(_table(t)) for t in concept.get("targets", ()))
    stages = tuple((str(s.get("id")), str(s.get("of", s.get("target")))) for s in map(_table, card.get("stages", ())))
    seed = _number(card.get("seed"))
    return Card(
        id=_text(card.get("id")) or name,
        status=_text(card.get("status")),
        error=_text(card.get("error")),
        method=_text(card.get("method")),
        config=_table(card.get("config")),
        training=_table(card.get("training")),
        scope=_text(card.get("scope")),
        target=(" then " if concept.get("together") == "sequential" else " + ").join(t.target for t in targets)
        or _text(concept.get("target")),
        kind=_text(concept.get("kind")),
        synonyms=_texts(concept.get("synonyms")),
        anchor=_text(concept.get("anchor")),
        model=_text(model.get("name")),
        fingerprint=_text(model.get("fingerprint")),
        family=_text(model.get("family")),
        seed=None if seed is None else int(seed),
        versions=_table(card.get("versions")),
        device=_text(card.get("device")),
        dtype=_text(card.get("dtype")),
        seconds=_number(card.get("seconds")),
        peak_memory_bytes=_number(card.get("peak_memory_bytes")),
        trainable=_number(card.get("trainable")),
        total=_number(card.get("total")),
        forwards=_number(card.get("forwards")),
        backwards=_number(card.get("backwards")),
        relative_change=_number(card.get("relative_change")),
        targets=targets,
        stages=stages,
        before=tuple(map(_table, card.get("before", ()))),
    )


def _target(table: Mapping[str, Any]) -> Target:
    return Target(str(table.get("target")), _text(table.get("kind")), _texts(table.get("synonyms")), _text(table.get("anchor")))


def _steps(log: Path) -> tuple[Step, ...]:
    lines = read_lines(log, cut_short=True)
    return tuple(
        Step(int(_real(line.get("step"), i + 1)), _real(line.get("loss")), {k: _real(v) for k, v in _table(line.get("terms")).items()})
        for i, line in enumerate(lines)
    )


def _evaluation(folder: Path) -> Evaluation | None:
    if not (folder / "rows.jsonl").is_file():
        return None
    about = read_json(folder / "evaluation.json") if (folder / "evaluation.json").is_file() else {}
    listed = folder / "pictures.json"
    pictures = _parse(listed.read_text(encoding="utf-8"), listed, list) if listed.is_file() else []
    return Evaluation(
        tuple(row_of(line, folder / "rows.jsonl") for line in read_lines(folder / "rows.jsonl")),
        tuple(_picture(_table(p), folder) for p in pictures),
        _text(about.get("judge")),
        _table(about.get("sampler")),
        _table(about.get("protocol")),
        _number(about.get("seconds")),
        _texts(about.get("notes")),
    )


def row_of(line: Mapping[str, Any], file: Path) -> Row:
    if "metric" not in line or "run" not in line:
        refuse(f"a row names its run and its metric: a line of {file} has only {', '.join(line) or 'nothing'}; evaluate the run again")
    n = _number(line.get("n"))
    return Row(
        run=str(line["run"]),
        probe=_text(line.get("probe")) or "",
        metric=str(line["metric"]),
        value=_real(line.get("value")),
        ci_low=_real(line.get("ci_low")),
        ci_high=_real(line.get("ci_high")),
        n=None if n is None else int(n),
        attack=_text(line.get("attack")) or "none",
        judge=_text(line.get("judge")) or "main",
        concept=_text(line.get("concept")) or "",
    )


def _picture(entry: Mapping[str, Any], folder: Path) -> Picture:
    seed = _number(entry.get("seed"))
    return Picture(
        probe=_text(entry.get("probe")) or "",
        prompt=str(entry.get("prompt") or ""),
        seed=None if seed is None else int(seed),
        base=inside(folder, entry.get("base")),
        unlearned=inside(folder, entry.get("unlearned")),
        wanted=_labels(entry.get("wanted")),
        seen_base=_labels(entry.get("seen_base")),
        seen=_labels(entry.get("seen")),
        concept=_text(entry.get("concept")) or "",
    )


def inside(folder: Path, path: Any) -> Path | None:
    # A run folder may come from someone else: it must not make a report carry files from elsewhere on this disk.
    file = (folder / path).resolve() if isinstance(path, str) and path else None
    return file if file and file.is_relative_to(folder.resolve()) and file.is_file() else None


def read_lines(file: Path, cut_short: bool = False) -> list[Mapping[str, Any]]:
    """A JSON object per line; with `cut_short`, a broken last line (the run was killed while it wrote) is left out."""
    if not file.is_file():
        return []
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if cut_short and lines:
        try:
            json.loads(lines[-1])
        except json.JSONDecodeError:
            lines.pop()
    return [_parse(line, file, dict) for line in lines]


def read_json(file: Path) -> Mapping[str, Any]:
    return _parse(file.read_text(encoding="utf-8"), file, dict)


def _parse(text: str, file: Path, kind: type) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        refuse(f"a run's files are JSON: {file} is not ({error}); make the run or its evaluation again")
    if not isinstance(value, kind):
        refuse(f"{file.name} holds a JSON {'object' if kind is dict else 'list'}: {file} has {text[:40]!r}; make it again")
    return value


def refuse(message: str) -> NoReturn:
    """Raises a user's error."""
    from expunge.errors import ExpungeError  # which imports torch: a report of sound folders does without

    raise ExpungeError(message) from None


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(v) for v in value) if isinstance(value, Sequence) else ()


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _labels(value: Any) -> Mapping[str, str]:
    return {str(k): str(v) for k, v in _table(value).items() if v is not None}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _real(value: Any, otherwise: float = math.nan) -> float:
    number = _number(value)
    return otherwise if number is None else number
