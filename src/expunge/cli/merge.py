"""`expunge merge RUN FOLDER`: the changed pipeline as a folder of its own, or the change alone as a LoRA file."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import BaseModel, RunFolder, run_folder


def merge(
    run: RunFolder,
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)] = None,
    model: BaseModel = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="fp32|bf16|fp16", help="Precision on disk, of a folder.  [default: the run's, which `eval` measures]"),
    ] = None,
    lora: Annotated[Path | None, typer.Option(metavar="FILE.safetensors", help="Write a LoRA file instead of a folder.")] = None,
    rank: Annotated[int | None, typer.Option(metavar="N", help="Of the LoRA.  [default: that of the run's scope, else 16]")] = None,
) -> None:
    """Write the unlearned pipeline as a diffusers folder, or what changed as a LoRA file.

    Either loads with plain diffusers and needs no expunge; the file with `pipeline.load_lora_weights`, which needs peft. A run of
    low rank is the same in both. Of any other the file holds what is nearest to it at its rank, and is said how near. A LoRA file
    removes nothing from the base model: whoever leaves it out has the concept.
    """
    from expunge.cli.screen import say
    from expunge.errors import ExpungeError
    from expunge.runs import export
    from expunge.runs.run import Run

    if (folder is None) == (lora is None):
        raise ExpungeError(
            f"a model is written as a folder or as a LoRA: {'both' if folder else 'neither'} given; give FOLDER or --lora FILE"
        )
    if rank and not lora:
        raise ExpungeError(f"a rank belongs to a LoRA: --rank {rank} is given without --lora; add it, or leave the rank out")
    made = Run(run_folder(run))
    base = model or made.card["model"]["name"]
    if folder:
        export.new_folder(folder)
        say(f"model   {export.merge(base, made, folder, dtype)}")
    elif lora:
        missing = export.write_lora(base, made, lora, rank)
        say(f"lora    {lora}", f"lacks   {missing:.2%} of the change's norm")
