"""The one matrix by which a closed form multiplies every weight that reads words."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from expunge import config
from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change
from expunge.runs.run import Run
from expunge.training.edit_prompts import edit_prompts

Factor = Float[Tensor, "width width"]

NEAR = 1e-3
"""How far what a card says may be from the delta beside it, as a share of the change: rounding, and another machine's."""


def factor(run: Run, model: DiffusionModel, weights: Mapping[str, Tensor], allow_code: bool) -> Factor:
    """The T by which a run multiplied each weight, worked out anew from its card and checked against its delta.

    Raises:
        ExpungeError: the delta is another one, as of a method that is no product; code outside the package.
    """
    saved = run.delta(model.fingerprint)
    width = model.encode([""]).states.shape[-1]
    product = torch.eye(width, dtype=torch.float64)
    for stage in run.stages or (run,):
        name = stage.card["method"]
        method = config.build(find_method(name, allow_code), stage.card["config"], name, allow_code=allow_code)
        assert not isinstance(method, Objective)
        # What an edit makes of the identity is what it multiplies by.
        edited = method({"identity": torch.eye(width, dtype=torch.float64)}, edit_prompts(stage.concept(), model, method.prompts))
        product = product @ edited["identity"].cpu()
    before = {n: weights[n] for n in saved}
    off = relative_change(times(before, product), saved) / relative_change(saved, before)
    if not off < NEAR:
        raise ExpungeError(
            f"The delta of {run.folder} differs from the product that its card describes by {off:.2g} of the run's change.",
            rule="compose-not-a-product",
            value=off,
            hint="Try removing the concepts in one run, with --target twice.",
        )
    return product


def times(weights: Mapping[str, Tensor], factor: Factor) -> dict[str, Tensor]:
    """Each matrix that reads as many numbers as T has times T; the others as they are."""
    return {n: w @ factor if w.ndim == 2 and w.shape[1] == len(factor) else w for n, w in weights.items()}
