"""The closed form that a trained method may begin with."""

import torch

from expunge.errors import ExpungeError
from expunge.methods.base import Objective
from expunge.models.scopes import SCOPES
from expunge.training.anything import OtherNames, anything, other_names
from expunge.training.banks import trained_on
from expunge.training.batches import Batches
from expunge.training.edit_prompts import edited, read_by, removed_before
from expunge.training.state import TrainState

RETAINED = 512
"""Random prompts that the closed form preserves."""


@torch.no_grad()
def begin(method: Objective, batches: Batches, state: TrainState) -> None:
    """Edits the trained weights that read the prompt alone by `Objective.first`.

    Low-rank factors are added to a weight that is not trained itself, so under a low-rank scope nothing is edited.

    Raises:
        ExpungeError: the method has no `replacement` among its needs.
    """
    model, concept = batches.model, batches.concept
    weights = {name: state.trained[name] for name in model.scope(SCOPES["entrance"]) if name in state.trained}
    if method.first is None or not weights:
        return
    if batches.replacement is None:
        raise ExpungeError(
            f"{type(method).__name__} begins with a closed form, whose goals are prompts with a replacement, and does not need one.",
            rule="first-without-replacement",
            value=type(method).__name__,
            hint="Try adding 'replacement' to the method's `needs`.",
        )
    forget = [p for of in trained_on(concept, "every") for p in of]
    words = other_names(model, concept)  # random ones alone: the settings of the closed form were found with them
    sentences = [forget[i % len(forget)].prompt for i in range(RETAINED)]
    retained = [*dict.fromkeys(anything(model, concept, OtherNames(words, words), sentences, batches.seed)), *removed_before(concept)]
    read = read_by(model, weights.keys(), [p.prompt for p in forget], [batches.replacement(p) for p in forget], retained)
    state.load({**state.trained, **edited(method.first, weights, read)})
