"""`expunge report RUN...`: one page about runs."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import RunFolders, find_run_folder


def report(
    runs: RunFolders,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="File to write.")] = Path("report.html"),
) -> None:
    """Write one HTML page about one run or several.

    The page holds images, numbers, settings and costs, and needs no network. Runs on the same concept are compared side by side.
    """
    from expunge.cli.output import print_lines
    from expunge.reports.pages.run import write_report

    print_lines(f"report  {write_report([find_run_folder(run) for run in runs], out)}")
