"""`expunge report RUN...`: one page about runs, or the record of one for an auditor."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import Blur, NoPictures, RunFolders, find_run_folder
from expunge.errors import ExpungeError

NOT_MET = 3
"""Exit code of a record whose acceptance criterion is not met."""


def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="File to write.")] = Path("report.html"),
    no_pictures: NoPictures = False,
    blur: Blur = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write RUN/record.html and RUN/record.json instead: what an auditor signs, with digests.")
    ] = False,
    accept: Annotated[
        str | None,
        typer.Option(metavar="CRITERION", help="--record: criterion of a run that fixed none with `unlearn --accept`; the record says so."),
    ] = None,
    merged: Annotated[Path | None, typer.Option(metavar="FOLDER", help="--record: the merged model, whose files are digested too.")] = None,
) -> None:
    """Write a page about runs, or the record of one run.

    The page of one run answers three questions from its evaluation and its audits: is the concept gone, what else changed, does it come
    back. Several runs are compared side by side. The page holds its images, and needs no network and no script.

    A record has no images. It holds the acceptance criterion and whether it is met, all numbers, what was attacked and what was not,
    every prompt and seed, and SHA-256 digests, which `expunge verify` checks. The exit code is 3 if the criterion is not met.
    """
    from expunge.cli.output import print_lines
    from expunge.reports.pages.run import write_report

    folders = [find_run_folder(run) for run in runs]
    if not record:
        if accept or merged:
            name, value = ("--accept", accept) if accept else ("--merged", str(merged))
            raise ExpungeError(f"{name} is for a record.", rule="option-without-record", value=value, hint="Try adding --record.")
        print_lines(f"report  {write_report(folders, out, not no_pictures, blur)}")
        return
    if len(folders) > 1:
        raise ExpungeError(
            f"A record is of one run, and {len(folders)} are given.",
            rule="record-of-several",
            value=len(folders),
            hint="Try the command once for each run.",
        )
    _write_record(folders[0], accept, merged)


def _write_record(folder: Path, accept: str | None, merged: Path | None) -> None:
    from expunge.cli.declarations import read
    from expunge.cli.output import print_lines
    from expunge.models.defaults import folder_of
    from expunge.reports.record.build import build_record
    from expunge.reports.record.page import write_record
    from expunge.runs.folder import read_card

    made = build_record(folder, tuple(read("expunge.attacks:ATTACKS")), folder_of(read_card(folder).model), merged, accept)
    as_json, page = write_record(made, folder)
    print_lines(*made["status"], f"record  {page}", f"        {as_json}")
    if (acceptance := made["acceptance"]) is None:
        print_lines("No acceptance criterion: fix one before the run with `expunge unlearn ... --accept`.")
    elif not acceptance["is_met"]:
        failed = dict.fromkeys(o["condition"] for o in acceptance["outcomes"] if not o["is_met"])
        print_lines(f"The acceptance criterion is not met: {', '.join(failed)}.")
        raise typer.Exit(NOT_MET)
    else:
        print_lines(f"The acceptance criterion is met: {acceptance['criterion']}.")
