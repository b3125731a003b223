"""`expunge merge RUN FOLDER`: a run's model as a diffusers folder, or its change as a LoRA file."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import BaseModel, RunFolder, find_run_folder

DTYPE = "Precision of the weights in FOLDER.  [default: the run's, which `eval` measures]"
LORA = "Write the change as a LoRA file instead of a folder."
RANK = "Rank of the LoRA. A larger rank is closer to the run.  [default: that of the run's scope, else 16]"


def merge(
    run: RunFolder,
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="New folder for the whole model.", show_default=False)] = None,
    model: BaseModel = None,
    dtype: Annotated[str | None, typer.Option(metavar="fp32|bf16|fp16", help=DTYPE)] = None,
    lora: Annotated[Path | None, typer.Option(metavar="FILE.safetensors", help=LORA)] = None,
    rank: Annotated[int | None, typer.Option(metavar="N", help=RANK)] = None,
) -> None:
    """Write a run's model as a diffusers folder or a LoRA file.

    Plain diffusers loads both without expunge: the folder with `from_pretrained`, the file with `pipeline.load_lora_weights`, which needs
    peft. A LoRA file holds a low-rank run exactly and approximates any other run; the command prints how much of the change is missing.
    A LoRA file does not change the base model: users who do not load it still have the concept.
    """
    from expunge.cli.output import print_lines
    from expunge.errors import ExpungeError
    from expunge.runs import export
    from expunge.runs.run import Run

    if (folder is None) == (lora is None):
        raise ExpungeError(
            f"A model is written either as a folder or as a LoRA file, and {'both are' if folder else 'neither is'} given.",
            rule="folder-or-lora",
            value=[str(path) for path in (folder, lora) if path],
            hint="Try `expunge merge RUN FOLDER` or `expunge merge RUN --lora FILE.safetensors`.",
        )
    if rank and not lora:
        raise ExpungeError(
            f"The option --rank {rank} has no effect without --lora.",
            rule="rank-without-lora",
            value=rank,
            hint="Try `--lora FILE.safetensors`.",
        )
    finished = Run(find_run_folder(run))
    base = model or finished.card["model"]["name"]
    if folder:
        export.new_folder(folder)
        print_lines(f"model   {export.merge(base, finished, folder, dtype)}")
    elif lora:
        missing = export.write_lora(base, finished, lora, rank)
        print_lines(f"lora    {lora}", f"missing {missing:.2%} of the change's norm")
