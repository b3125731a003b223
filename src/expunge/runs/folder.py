"""What the files of a run's folder say: the card as a typed mapping, and the steps of the log. Imports no torch.

What is missing is None or empty, so that half a run can be shown. What is broken is an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.errors import ExpungeError
from expunge.storage.json_files import as_float, as_number, as_table, as_tables, as_text, as_texts, find_file, read_lines, read_object
from expunge.training.steps import Step


@dataclass(frozen=True)
class Target:
    """One concept of a run that removes several."""

    target: str
    kind: str | None
    synonyms: tuple[str, ...]
    anchor: str | None


@dataclass(frozen=True)
class StageName:
    """One stage of a run that was made in stages."""

    id: str
    """The run id of the stage."""
    of: str
    """What the stage does: its concept, its method, or both."""


class Card(Mapping[str, Any]):
    """The card of a run, as `card.json` holds it, with typed properties. A property is None or empty where the card has no such key.

    Args:
        table: the JSON object.
        name: the run's id if the card has none: the name of its folder.
    """

    def __init__(self, table: Mapping[str, Any], name: str = ""):
        self._table, self._name = table, name

    def __getitem__(self, key: str) -> Any:
        return self._table[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._table, **other}

    def __repr__(self) -> str:
        return f"Card({self.id!r})"

    @property
    def id(self) -> str:
        return as_text(self.get("id")) or self._name

    @property
    def status(self) -> str | None:
        """What became of the run: `running`, which a killed run keeps, or `done`."""
        return as_text(self.get("status"))

    @property
    def error(self) -> str | None:
        return as_text(self.get("error"))

    @property
    def date(self) -> str | None:
        """The day the card was written, in UTC, as YYYY-MM-DD."""
        return as_text(self.get("date"))

    @property
    def method(self) -> str | None:
        return as_text(self.get("method"))

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings of the method."""
        return as_table(self.get("config"))

    @property
    def training(self) -> Mapping[str, Any]:
        return as_table(self.get("training"))

    @property
    def before(self) -> tuple[Mapping[str, Any], ...]:
        """The methods that ran first, each with its settings in `method` and `training`."""
        return as_tables(self.get("before"))

    @property
    def scope(self) -> str | None:
        return as_text(self.get("scope"))

    @property
    def targets(self) -> tuple[Target, ...]:
        """The concepts of a run that removes several; empty for a run of one concept."""
        return tuple(_target(t) for t in as_tables(self._concept.get("targets")))

    @property
    def target(self) -> str | None:
        """The concept's name; of several, their names joined by "+", or by "then" if they were removed in sequence."""
        joint = " then " if self._concept.get("together") == "sequential" else " + "
        return joint.join(t.target for t in self.targets) or as_text(self._concept.get("target"))

    @property
    def kind(self) -> str | None:
        return as_text(self._concept.get("kind"))

    @property
    def synonyms(self) -> tuple[str, ...]:
        """Other names of the concept that the method was given."""
        return as_texts(self._concept.get("synonyms"))

    @property
    def anchor(self) -> str | None:
        return as_text(self._concept.get("anchor"))

    @property
    def model(self) -> str | None:
        return as_text(self._model.get("name"))

    @property
    def fingerprint(self) -> str | None:
        return as_text(self._model.get("fingerprint"))

    @property
    def family(self) -> str | None:
        return as_text(self._model.get("family"))

    @property
    def seed(self) -> int | None:
        seed = as_number(self.get("seed"))
        return None if seed is None else int(seed)

    @property
    def versions(self) -> Mapping[str, Any]:
        return as_table(self.get("versions"))

    @property
    def code(self) -> str | None:
        """A digest of the code that made the run; None in cards of older versions."""
        return as_text(self.get("code"))

    @property
    def device(self) -> str | None:
        return as_text(self.get("device"))

    @property
    def dtype(self) -> str | None:
        return as_text(self.get("dtype"))

    @property
    def seconds(self) -> float | None:
        return as_number(self.get("seconds"))

    @property
    def peak_memory_bytes(self) -> float | None:
        return as_number(self.get("peak_memory_bytes"))

    @property
    def trainable(self) -> float | None:
        """The number of trained parameters."""
        return as_number(self.get("trainable"))

    @property
    def total(self) -> float | None:
        """The number of all parameters of the network."""
        return as_number(self.get("total"))

    @property
    def forwards(self) -> float | None:
        return as_number(self.get("forwards"))

    @property
    def backwards(self) -> float | None:
        return as_number(self.get("backwards"))

    @property
    def relative_change(self) -> float | None:
        """|| change of the trained weights || / || these weights before ||."""
        return as_number(self.get("relative_change"))

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages of a run that was made in stages, in order; empty for any other run."""
        return tuple(StageName(str(s.get("id")), str(s.get("of", s.get("target")))) for s in as_tables(self.get("stages")))

    def of_target(self, number: int) -> "Card":
        """The card of a run of several concepts as if it had removed one of them, `targets[number]`, alone."""
        concept = {key: value for key, value in self._concept.items() if key != "targets"}
        return Card(self | {"concept": concept | dict(as_tables(self._concept["targets"])[number])}, self._name)

    @property
    def _concept(self) -> Mapping[str, Any]:
        return as_table(self.get("concept"))

    @property
    def _model(self) -> Mapping[str, Any]:
        return as_table(self.get("model"))


def read_card(folder: Path) -> Card:
    """The card of a run, finished or not.

    Raises:
        ExpungeError: the folder has no `card.json`, or the file is broken.
    """
    if (file := find_file(folder, "card.json")) is None:
        raise ExpungeError(
            f"{folder} is no run: it has no card.json.",
            rule="no-run",
            value=str(folder),
            hint="Try a folder that `expunge unlearn` wrote.",
        )
    return Card(read_object(file), folder.name)


def read_config(folder: Path) -> str:
    """The text of `config.toml`; empty if there is none."""
    file = find_file(folder, "config.toml")
    return file.read_text(encoding="utf-8", errors="replace") if file else ""


def read_steps(folder: Path) -> tuple[Step, ...]:
    """The steps of `log.jsonl`; empty if there is none. A broken last line, which a killed run leaves, is skipped.

    Raises:
        ExpungeError: any other line is broken.
    """
    file = find_file(folder, "log.jsonl")
    lines = read_lines(file, cut_short=True) if file else []
    return tuple(_step(line, number, len(lines)) for number, line in enumerate(lines, 1))


def _target(table: Mapping[str, Any]) -> Target:
    names = as_text(table.get("kind")), as_texts(table.get("synonyms")), as_text(table.get("anchor"))
    return Target(str(table.get("target")), *names)


def _step(line: Mapping[str, Any], number: int, steps: int) -> Step:
    at = as_number(line.get("step"))
    terms = {str(name): as_float(value) for name, value in as_table(line.get("terms")).items()}
    terms = terms or {"loss": as_float(line.get("loss"))}
    return Step(number if at is None else int(at), steps, terms, as_float(line.get("grad_norm")))
