"""`expunge adopt UNLEARNED`: a model that was unlearned elsewhere, as a run."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import CANVAS, Device, Model, Vocabulary

UNLEARNED = "A diffusers folder, a hub id, or a .safetensors file with U-Net tensors or a LoRA."
TARGET = "Concept that was removed. Repeat it for other names of the concept, or for other concepts."


def adopt(
    unlearned: Annotated[str, typer.Argument(metavar="UNLEARNED", help=UNLEARNED, show_default=False)],
    target: Annotated[list[str], typer.Option(metavar="WORDS", help=TARGET)],
    model: Model = None,
    synonym: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="Another name of the concept. May be repeated.")] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Kind of a concept that the vocabulary lacks: style, object, ...")
    ] = None,
    vocabulary: Vocabulary = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the method in reports.")] = "adopted",
    never_saw: Annotated[
        bool, typer.Option("--never-saw", help="The model was trained without the concept. `audit --control` takes such a run.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder of the new run.  [default: runs/ID]")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="Precision in which the run is measured.")] = "fp32",
) -> None:
    """Turn a model that was unlearned elsewhere into a run.

    The run's change is the difference between UNLEARNED and --model, the base model that it was made from. `eval`, `meter`, `audit` and
    `report` then take it like any other run. UNLEARNED may be weights that others publish, or a folder that `merge` wrote.
    """
    from expunge.cli.concept_options import find_concepts
    from expunge.cli.output import print_lines
    from expunge.models.defaults import defaults_of
    from expunge.runs.adopt import adopt as adopt_model

    base = model or CANVAS
    words = {"target": target, "synonym": synonym, "kind": kind, "vocabulary": vocabulary, "anchor": None}
    concept = find_concepts({}, words | {"sequential": None, "reference": None}, base)
    run = adopt_model(base, unlearned, concept, name=name, never_saw=never_saw, out=out, device=device, dtype=dtype)
    card = run.card
    print_lines(f"run     {run.folder}", f"change  {card['relative_change']:.3%} of the {card['scope']} weights' norm")
    print_lines("", f"next: expunge eval {run.folder}{'' if defaults_of(base).judges else ' --judge FOLDER|ID'}")
