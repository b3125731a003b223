"""`expunge report RUN...`: the page that shows what was done."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import run_folder


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their ids under runs/.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page.")] = Path("report.html"),
) -> None:
    """Write one page about one run or several.

    It holds pictures, numbers, settings and costs, and needs no network. Runs on one concept are put side by side.
    """
    from expunge.cli.screen import say
    from expunge.reports.pages.run import write_report

    say(f"report  {write_report([run_folder(run) for run in runs], out)}")
