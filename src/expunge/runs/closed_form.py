"""The matrices by which a closed form multiplies the weights where words enter: one for all that read the same."""

from collections.abc import Mapping
from typing import NamedTuple

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


class Factor(NamedTuple):
    """What a weight is multiplied by."""

    matrix: Float[Tensor, "width width"]
    """T: a weight W becomes W T."""
    is_of_table: bool
    """Whether the weight is a table of embeddings, which is the transposed matrix: it becomes T^T W."""


Factors = dict[str, Factor]
"""By the name of the weight that each multiplies. Weights that read the same share a factor."""

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
            so_far = products[names[0]].matrix if names[0] in products else identity
            edited = method({"identity": so_far}, prompts)["identity"].cpu()
            products |= dict.fromkeys(names, Factor(edited, group.are_tables))
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
    return {name: _times(weight, factors.get(name)) for name, weight in weights.items()}


def _times(weight: Tensor, factor: Factor | None) -> Tensor:
    if factor is None or weight.ndim != 2 or weight.shape[0 if factor.is_of_table else 1] != len(factor.matrix):
        return weight
    return factor.matrix.mT @ weight if factor.is_of_table else weight @ factor.matrix
