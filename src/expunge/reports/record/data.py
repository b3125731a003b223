"""The data behind a run and its audits, with digests of what lies on this machine."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from expunge.reports.record.digests import digests_of
from expunge.reports.run_view import RunView
from expunge.storage.hashing import sha256_of
from expunge.storage.json_files import as_table, as_tables, as_text, find_file, read_object

MADE = ("base", "retain")
"""Names of data that an attack makes itself."""


def data_of(view: RunView) -> list[dict[str, Any]]:
    """The vocabulary, the real images of the evaluation, and the images that attacks trained on, each once."""
    return [{"use": use, "name": name, "sha256": digest_at(Path(name))} for use, name in dict.fromkeys(_named(view))]


def digest_at(path: Path) -> str | None:
    """The digest of a file, or of a folder over the names and digests of its files; None if there is neither."""
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        return None
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests_of(path).items()).encode()).hexdigest()


def _named(view: RunView) -> Iterator[tuple[str, str]]:
    concept = as_table(view.card.get("concept"))
    if vocabulary := as_text(concept.get("vocabulary")):
        yield "vocabulary", vocabulary
    file = find_file(view.folder, "evaluation/evaluation.json")
    if file and (real := as_text(read_object(file).get("real"))):
        yield "real images", real
    for audit in view.audits:
        for entry in as_tables(as_table(audit.table.get("budget")).get("attacks")):
            if (data := as_text(entry.get("data"))) and data not in MADE:
                yield f"images of the attack {entry.get('label')}", data
