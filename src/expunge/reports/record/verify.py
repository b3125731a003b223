"""Checks a record: recomputes every digest that it names."""

import json
from pathlib import Path

from expunge.reports.record.data import digest_at
from expunge.reports.record.digests import Difference, compare_digests
from expunge.reports.record.schema import check
from expunge.storage.json_files import as_table, as_tables, read_object


def verify_record(file: Path, base: Path | None = None, merged: Path | None = None) -> tuple[list[Difference], list[str]]:
    """What differs from the record, and what could not be checked.

    Args:
        file: `record.json` in the folder of the run.
        base: the base model's folder.
        merged: the folder of the merged model, if the record has one.

    Raises:
        ExpungeError: a file that is no record, is of another format, or does not follow the schema of records.
    """
    record = read_object(file)
    check(json.dumps(record), file)
    found, unchecked = compare_digests("run", file.parent, as_table(record.get("files"))), []
    for part, folder in {"base": base, "merged": merged}.items():
        digests = as_table(as_table(record.get(part)).get("files"))
        if digests and folder and folder.is_dir():
            found += compare_digests(part, folder, digests)
        elif digests or part == "base":
            unchecked.append(part)
    for data in (d for d in as_tables(record.get("data")) if d.get("sha256")):
        now = digest_at(Path(str(data["name"])))
        if now is None:
            unchecked.append(str(data["use"]))
        elif now != data["sha256"]:
            found.append(Difference("data", str(data["name"]), "changed"))
    return found, unchecked
