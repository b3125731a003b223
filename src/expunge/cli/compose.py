"""`expunge compose RUN...`: closed-form runs combined into one."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import AllowCode, BaseModel, RunFolders, find_run_folder


def compose(
    runs: RunFolders,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the new run.  [default: runs/ID]")] = None,
    model: BaseModel = None,
    allow_code: AllowCode = False,
) -> None:
    """Combine closed-form runs into one run without repeating them.

    The changes of UCE runs on different concepts can be multiplied. Those of trained methods cannot: give `expunge unlearn` all
    concepts at once instead.
    """
    from expunge.cli.output import print_lines
    from expunge.runs.compose import compose as compose_runs
    from expunge.runs.run import Run

    composed = compose_runs([Run(find_run_folder(run)) for run in runs], out, model, allow_code=allow_code)
    card = composed.card
    print_lines(f"run     {composed.folder}", f"change  {card['relative_change']:.3%} of the norm of the {card['scope']} weights")
    print_lines("", f"next: expunge eval {composed.folder}")
