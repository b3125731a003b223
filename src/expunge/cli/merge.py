"""`expunge merge RUN FOLDER`: the changed pipeline as a folder of its own."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import BaseModel, RunFolder, run_folder


def merge(
    run: RunFolder,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)],
    model: BaseModel = None,
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="Precision on disk.")] = "fp16",
) -> None:
    """Write the unlearned pipeline as a diffusers folder.

    It loads with plain diffusers and needs no expunge.
    """
    from expunge import export
    from expunge.cli.screen import say
    from expunge.run import Run

    made = Run(run_folder(run))
    export.new_folder(folder)
    say(f"model   {export.merge(model or made.card['model']['name'], made, folder, dtype)}")
