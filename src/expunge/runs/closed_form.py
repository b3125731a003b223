"""The matrices by which a closed form multiplies the weights where words enter: one for all that read the same."""

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

Factors = dict[str, Float[Tensor, "width width"]]
"""By the name of the weight that each multiplies. Weights that read the same share a tensor."""

NEAR = 1e-3
"""How far what a card says may be from the delta beside it, as a share of the change: rounding, and another machine's."""


def factors(run: Run, model: DiffusionModel, weights: Mapping[str, Tensor], allow_code: bool) -> Factors:
    """The T by which a run multiplied each weight, worked out anew from its card and checked against its delta.

    Raises:
        ExpungeError: the delta is another one, as of a method that is no product; code outside the package.
    """
    saved = run.delta(model.fingerprint)
    products: Factors = {}
    for stage in run.stages or (run,):
        name = stage.card["method"]
        method = config.build(find_method(name, allow_code), stage.card["config"], name, allow_code=allow_code)
        assert not isinstance(method, Objective)
        for group, prompts in edit_prompts(stage.concept(), model, saved.keys(), method.prompts):
            names = group.weights(saved.keys())
            # What an edit makes of the identity is what it multiplies by.
            identity = torch.eye(prompts.target.states.shape[-1], dtype=torch.float64)
            edited = method({"identity": products.get(names[0], identity)}, prompts)["identity"].cpu()
            products |= dict.fromkeys(names, edited)
    before = {n: weights[n] for n in saved}
    off = relative_change(times(before, products), saved) / relative_change(saved, before)
    if not off < NEAR:
        raise ExpungeError(
            f"The delta of {run.folder} differs from the product that its card describes by {off:.2g} of the run's change.",
            rule="compose-not-a-product",
            value=off,
            hint="Try removing the concepts in one run, with --target twice.",
        )
    return products


def times(weights: Mapping[str, Tensor], factors: Factors) -> dict[str, Tensor]:
    """Each matrix that reads as many numbers as its T has times T; the others as they are."""
    return {n: w @ factors[n] if w.ndim == 2 and n in factors and w.shape[1] == len(factors[n]) else w for n, w in weights.items()}
