"""A closed form's edit as a text-space eraser: one matrix on the states of prompts."""

import re
from pathlib import Path

import torch

from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.loading import Model
from expunge.models.text_eraser import TextEraser
from expunge.runs.closed_form import factors
from expunge.runs.export.change import Change, check_name
from expunge.runs.export.provenance import described
from expunge.runs.run import Run


def write_text_eraser(model: Model, run: Run | str | Path, file: str | Path, allow_code: bool = False) -> TextEraser:
    """Writes the edit of a closed form, UCE, as one matrix on the states of prompts: a file of 2.4 MB for Stable Diffusion 1.

    Choose it to switch the removal on and off, or to set its strength, in a pipeline whose weights stay. At strength 1 the base model
    predicts what the edited one does, up to rounding.

    Args:
        allow_code: whether the run's card may name a method outside the package, which is imported. Choose it for runs that you trust.

    Returns:
        The eraser, ready to be attached to a pipeline.

    Raises:
        ExpungeError: a trained run, whose change is no such product; one that was composed; a model that reads more than the states of
            tokens; the run belongs to another base model, or is not finished; a file that is not called `.safetensors`, or cannot be
            written; code outside the package.
    """
    file = Path(file)
    check_name(file, "a text-space eraser")
    run = run if isinstance(run, Run) else Run(Path(run))
    _refuse(run, allow_code)
    change = Change.of(model, run)
    weights = {n: p.detach().to("cpu", torch.float64) for n, p in change.model.network.named_parameters() if n in change.after}
    found = factors(run, change.model, weights, allow_code)
    if beyond := [n for n in found if weights[n].ndim == 2 and not re.search(change.model.reads_tokens, n)]:
        raise ExpungeError(
            f"{run.folder} changes {beyond[0]}, which does not read the states of tokens as they are. No one matrix on these is the edit.",
            rule="eraser-beyond-states",
            value=beyond[0],
            hint="Try a merged folder, or a LoRA file.",
        )
    eraser = TextEraser(next(iter(found.values())).matrix, described(change))
    eraser.save(file)
    return eraser


def _refuse(run: Run, allow_code: bool) -> None:
    methods = {run.card["method"], *(layer["method"]["name"] for layer in run.card.before if "method" in layer)}
    if trained := sorted(name for name in methods if not _is_closed(name, allow_code)):
        raise ExpungeError(
            f"{run.folder} was made by {trained[0]}, and only the edit of a closed form is one matrix on the states of prompts.",
            rule="eraser-of-trained-run",
            value=trained[0],
            hint="Try a LoRA file, or a run by uce.",
        )
    if "composed_of" in run.card:
        raise ExpungeError(
            f"{run.folder} was composed of other runs.",
            rule="eraser-of-composed-run",
            value=run.id,
            hint="Try an eraser of each of them, attached one after another.",
        )


def _is_closed(name: str, allow_code: bool) -> bool:
    try:
        return not issubclass(find_method(name, allow_code), Objective)
    except ExpungeError as error:
        if error.rule == "unknown-method":  # a model that was unlearned elsewhere
            return False
        raise
