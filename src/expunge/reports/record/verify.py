"""Checks a record: recomputes every digest that it names."""

from pathlib import Path

from expunge.errors import ExpungeError
from expunge.reports.record.build import FORMAT
from expunge.reports.record.digests import Difference, compare_digests
from expunge.storage.json_files import as_table, read_object


def verify_record(file: Path, base: Path | None = None, merged: Path | None = None) -> tuple[list[Difference], list[str]]:
    """What differs from the record, and what could not be checked.

    Args:
        file: `record.json` in the folder of the run.
        base: the base model's folder.
        merged: the folder of the merged model, if the record has one.

    Raises:
        ExpungeError: a file that is no record, or of another format.
    """
    record = read_object(file)
    if record.get("format") != FORMAT:
        raise ExpungeError(
            f"{file} is not a record of the format {FORMAT}.", rule="not-a-record", value=record.get("format"), hint="Try RUN/record.json."
        )
    found, unchecked = compare_digests("run", file.parent, as_table(record.get("files"))), []
    for part, folder in {"base": base, "merged": merged}.items():
        digests = as_table(as_table(record.get(part)).get("files"))
        if digests and folder and folder.is_dir():
            found += compare_digests(part, folder, digests)
        elif digests or part == "base":
            unchecked.append(part)
    return found, unchecked
