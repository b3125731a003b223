"""What replaces a concept: one definite member of its kind, far from it by what the base model predicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from expunge.concepts.concept import Concept, ForgetPrompt
from expunge.concepts.groups import Subject
from expunge.models.base import DiffusionModel
from expunge.training.banks import Bank

POINTS = 16
"""Points on images of the concept at which predictions are compared."""

MEMBERS = 32
"""The largest number of members that are compared, spread evenly over the kind."""


@dataclass(frozen=True)
class Replacements:
    """The prompt with the replacement in place of the concept, for each forget prompt.

    A concept's anchor is its replacement if it has one. Otherwise it is the member of its kind that `farthest` gives, and where nothing
    else of the kind may replace it, nothing: the context.
    """

    chosen: Mapping[str, int]
    """The place of the member among the marginals of each prompt, by the concept's target; only of concepts without an anchor."""

    def __call__(self, prompt: ForgetPrompt) -> str:
        place = self.chosen.get(prompt.concept)
        return prompt.anchor if place is None else prompt.marginals[place]

    def beside(self, bank: Bank) -> Bank:
        """The bank with the replaced prompt of each row."""
        return replace(bank, replacements=tuple(map(self, bank.prompts)))


def choose(model: DiffusionModel, concept: Subject, bank: Bank) -> Replacements:
    """Chooses for each concept without an anchor, on the bank of its images."""
    groups = {bank.prompts[group[0]].concept: group for group in bank.groups}
    open_ = [part for part in concept.parts if part.anchor is None and part.others and part.target in groups]
    return Replacements({part.target: farthest(model, part, bank, groups[part.target]) for part in open_})


@torch.no_grad()
def farthest(model: DiffusionModel, concept: Concept, bank: Bank, group: list[int]) -> int:
    """The place among the marginals of the member under which the base model predicts most differently from the concept.

    On noised images of the concept, argmax_m E || eps_*(x_t, t, c_m) - eps_*(x_t, t, c_f) ||^2. A near member would be confused with the
    concept, and the mean of several members may be the concept: between a square and a hexagon lies a pentagon.
    """
    at = group[:POINTS]
    x, count = bank.points[at], len(concept.others)
    x_t, t = x.x_t.to(model.device), x.t.to(model.device)

    def predicted(prompts: list[str]) -> torch.Tensor:
        return model.predict(replace(x, x_t=x_t, t=t, cond=model.encode(prompts)))

    own = predicted([bank.prompts[i].prompt for i in at])
    places = range(0, count, -(-count // MEMBERS))
    distances = {place: (predicted([bank.prompts[i].marginals[place] for i in at]) - own).square().mean().item() for place in places}
    return max(distances, key=lambda place: distances[place])
