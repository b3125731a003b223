"""The acceptance criterion of a run, fixed in its folder before the run begins. Imports no torch."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from expunge.errors import ExpungeError
from expunge.storage.files import write_json
from expunge.storage.json_files import as_text, find_file, read_object

FILE = "acceptance.json"
EXAMPLE = 'Try a list such as "UA>=0.98, NRA>=-0.02, relearn<=control+0.05".'

_FORM = re.compile(r"(?P<what>[\w.-]*\w)\s*(?P<sign>>=|<=)\s*(?P<reference>base|control|)\s*(?P<number>[+-]?\s*\d*\.?\d+|)")


class Clause(NamedTuple):
    """One condition of a criterion as it is written."""

    text: str
    what: str
    sign: str
    reference: str
    number: float


@dataclass(frozen=True)
class Acceptance:
    """What was to be reached, and when that was fixed."""

    criterion: str
    fixed: str
    """Time in UTC, as YYYY-MM-DDTHH:MM:SSZ."""


def read_acceptance(folder: Path) -> Acceptance | None:
    """The criterion in a run's folder; None if none was fixed before the run."""
    file = find_file(folder, FILE)
    if file is None:
        return None
    table = read_object(file)
    return Acceptance(as_text(table.get("criterion")) or "", as_text(table.get("fixed")) or "")


def split_criterion(text: str) -> list[Clause]:
    """The conditions of a criterion, which are separated by commas, each `NAME >= NUMBER` or `NAME <= NUMBER`. The number may follow `base`
    or `control`, as in `control+0.05`.

    Raises:
        ExpungeError: rule "broken-criterion", a condition of another form, or none.
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _FORM.fullmatch(part)
        if match is None or not (match["number"] or match["reference"]):
            raise ExpungeError(f"{part!r} is not a condition.", rule="broken-criterion", value=part, hint=EXAMPLE)
        number = float(match["number"].replace(" ", "") or 0)
        found.append(Clause(part, match["what"], match["sign"], match["reference"], number))
    if not found:
        raise ExpungeError("The acceptance criterion is empty.", rule="broken-criterion", value=text, hint=EXAMPLE)
    return found


def fix_criterion(folder: Path, criterion: str) -> None:
    """Writes the criterion into the folder of a run that has not begun. The same criterion again changes nothing.

    A criterion that is chosen after the results are known proves nothing.

    Raises:
        ExpungeError: a broken criterion; rule "criterion-fixed": the run has another criterion, or has begun without one.
    """
    split_criterion(criterion)
    kept = read_acceptance(folder)
    if kept and kept.criterion == criterion:
        return
    if kept or (folder / "card.json").exists():
        what = f"has the acceptance criterion {kept.criterion!r}, fixed at {kept.fixed}" if kept else "has begun without a criterion"
        raise ExpungeError(
            f"The run in {folder} {what}, so {criterion!r} cannot be fixed before it.",
            rule="criterion-fixed",
            value=criterion,
            hint="Try another folder with --out, which is a new run.",
        )
    write_json(folder / FILE, {"criterion": criterion, "fixed": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}, indent=2)
