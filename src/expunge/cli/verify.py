"""`expunge verify RECORD`: recomputes the digests of a record."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.output import print_lines, print_table

DIFFERS = 1
"""Exit code where a file is not as the record says."""


def verify(
    record: Annotated[Path, typer.Argument(metavar="RECORD.json", help="The record, in the folder of its run.", show_default=False)],
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The base model's folder, if it was moved.")] = None,
    merged: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The merged model's folder.")] = None,
) -> None:
    """Check the files of a run and its models against a record.

    Recomputes the SHA-256 digest of every file that the record names. Exits with 1 if a file changed, is missing or is new.
    """
    from expunge.models.defaults import folder_of
    from expunge.reports.record.verify import verify_record
    from expunge.storage.json_files import as_table, read_object

    base = model or folder_of(str(as_table(read_object(record).get("base")).get("name") or ""))
    found, unchecked = verify_record(record, base, merged)
    if found:
        print_table("not as recorded", ("part", "file", "what"), [(d.part, d.file, d.what) for d in found])
    if unchecked:
        print_lines(f"not checked, because no folder is given or found: {', '.join(unchecked)}")
    if found:
        raise typer.Exit(DIFFERS)
    print_lines("every digest is as recorded")
