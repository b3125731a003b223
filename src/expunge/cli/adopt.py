"""`expunge adopt UNLEARNED`: what was unlearned elsewhere, as a run."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import Device, Model, Vocabulary

UNLEARNED = "A diffusers folder, a hub id, or a .safetensors file of U-Net tensors or of a LoRA."


def adopt(
    unlearned: Annotated[str, typer.Argument(metavar="UNLEARNED", help=UNLEARNED, show_default=False)],
    target: Annotated[list[str], typer.Option(metavar="WORDS", help="The concept that it is said to have forgotten. May repeat.")],
    model: Model = None,
    synonym: Annotated[list[str] | None, typer.Option(metavar="WORDS", help="Another of its names. May repeat.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="What a concept is that the vocabulary does not hold.")] = None,
    vocabulary: Vocabulary = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What its method is called in reports.")] = "adopted",
    never_saw: Annotated[bool, typer.Option("--never-saw", help="It was trained without the concept: a control for `audit`.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run's folder.  [default: runs/ID]")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="Precision that it is measured in.")] = "fp32",
) -> None:
    """Make a run of a model that was unlearned elsewhere, so that it can be measured and attacked.

    What differs from --model, the model that it was made from, becomes the run's change. Then `eval`, `meter`, `audit` and `report`
    take it like any other: weights that others publish or deliver, or a folder that `merge` wrote, as it ships.
    """
    from expunge.cli.options import CANVAS
    from expunge.cli.request import concept_asked
    from expunge.cli.screen import say
    from expunge.models.defaults import defaults_of
    from expunge.runs.adopt import adopt as adopted

    base = model or CANVAS
    words = {"target": target, "synonym": synonym, "kind": kind, "vocabulary": vocabulary, "anchor": None}
    concept = concept_asked({}, words | {"sequential": None, "reference": None}, base)
    run = adopted(base, unlearned, concept, name=name, never_saw=never_saw, out=out, device=device, dtype=dtype)
    card = run.card
    say(f"run     {run.folder}", f"change  {card['relative_change']:.3%} of the {card['scope']} weights' norm")
    say("", f"next: expunge eval {run.folder}{'' if defaults_of(base).judges else ' --judge FOLDER|ID'}")
