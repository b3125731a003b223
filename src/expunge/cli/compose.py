"""`expunge compose RUN RUN...`: closed-form runs as one."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import AllowCode, BaseModel, run_folder


def compose(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their ids under runs/.", show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The new run's folder.  [default: runs/ID]")] = None,
    model: BaseModel = None,
    allow_code: AllowCode = False,
) -> None:
    """Make one run of several closed-form ones, without doing them again.

    UCE's changes multiply, so the concepts of its runs can be gone together. Those of trained methods do not: give `unlearn`
    all the concepts.
    """
    from expunge.cli.screen import say
    from expunge.runs.compose import compose as composed
    from expunge.runs.run import Run

    made = composed([Run(run_folder(run)) for run in runs], out, model, allow_code=allow_code)
    say(f"run     {made.folder}", f"change  {made.card['relative_change']:.3%} of the {made.card['scope']} weights' norm")
    say("", f"next: expunge eval {made.folder}")
