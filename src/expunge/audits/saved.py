"""Reads a finished audit from its folder. Imports no attack and no torch, so that pages can be made from files alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from expunge.audits.cells import Result, Role
from expunge.audits.results import Audit, CellResult, Failure
from expunge.errors import ExpungeError
from expunge.storage.files import inner_file
from expunge.storage.json_files import as_float, as_table, as_tables, as_text, as_texts, find_file, read_object

OWN = ("name", "label")
"""Keys of an attack's table that are not its settings."""


@dataclass(frozen=True)
class SavedEntry:
    """An attack of a budget, as the audit's files describe it."""

    name: str
    label: str
    settings: Mapping[str, Any]
    teaches: bool
    access: str


@dataclass(frozen=True)
class SavedBudget:
    """A budget, as the audit's files describe it."""

    name: str
    pictures: int
    entries: tuple[SavedEntry, ...]

    @property
    def table(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"pictures": self.pictures, "attacks": [{"name": e.name, "label": e.label, **e.settings} for e in self.entries]}


def read_audit(folder: Path, card: Mapping[str, Any]) -> Audit | None:
    """The audit in a folder; None if its files do not have all readings, as those of older versions.

    Args:
        folder: of the audit, with `audit.json` and `cells/`.
        card: of the audited run.

    Raises:
        ExpungeError: a file is broken, or a link out of the folder.
    """
    if (file := find_file(folder, "audit.json")) is None:
        return None
    table = read_object(file)
    done = [_read_cell(folder, cell) for cell in as_tables(table.get("cells"))]
    whole = [cell for cell in done if cell]
    if len(whole) < len(done) or not as_table(table.get("chances")):
        return None
    try:
        return _audit(folder, card, table, whole)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _broken(file, error) from error


def _audit(folder: Path, card: Mapping[str, Any], table: Mapping[str, Any], done: list[CellResult]) -> Audit:
    control = as_text(table.get("control"))
    return Audit(
        folder=folder,
        card=card,
        control={"id": control} if control else None,
        budget=_budget(table),
        seed=int(as_float(table.get("seed"))),
        judges=as_texts(table.get("judges")),
        sampler=as_table(table.get("sampler")),
        chances={str(concept): as_float(chance) for concept, chance in as_table(table.get("chances")).items()},
        done=tuple(done),
        failures=tuple(Failure(**failure) for failure in as_tables(table.get("failures"))),
        untried=as_texts(table.get("untried")),
        model=as_text(table.get("model")) or "",
        command=as_text(table.get("command")) or "",
    )


def _budget(table: Mapping[str, Any]) -> SavedBudget:
    budget, teaching = as_table(table.get("budget")), as_texts(table.get("teaching"))
    access = {str(f.get("attack")): str(f.get("access")) for f in as_tables(table.get("findings"))}
    entries = [
        SavedEntry(
            str(e["name"]), str(e["label"]), {k: v for k, v in e.items() if k not in OWN}, e["name"] in teaching, access.get(e["name"], "")
        )
        for e in as_tables(budget.get("attacks"))
    ]
    return SavedBudget(str(budget.get("name")), int(as_float(budget.get("pictures"))), tuple(entries))


def _read_cell(folder: Path, cell: Mapping[str, Any]) -> CellResult | None:
    """A cell's result; None if its file is missing."""
    file = inner_file(folder, f"cells/{cell.get('id')}.json")
    if file is None:
        return None
    try:
        result = Result.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(file, error) from error
    return CellResult(str(cell.get("label")), cast(Role, cell.get("role")), str(cell.get("run")), str(cell.get("method")), result)


def _broken(file: Path, error: Exception) -> ExpungeError:
    return ExpungeError(
        f"{file} is no file of an audit: {error!r}.", rule="broken-audit", value=str(file), hint="Try `expunge audit` again."
    )
