"""What replaces a concept: one definite member of its kind, from which no short way leads back to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.concepts.concept import Concept, ForgetPrompt
from expunge.concepts.groups import Subject
from expunge.models.base import DiffusionModel
from expunge.training.banks import Bank

POINTS = 32
"""Points on images of the concept at which predictions are compared, spread evenly over them."""

AT_ONCE = 8
"""Points of one call of the network."""

MEMBERS = 32
"""The largest number of members that are compared, spread evenly over the kind."""


@dataclass(frozen=True)
class Replacements:
    """The prompt with the replacement in place of the concept, for each forget prompt.

    A concept's anchor is its replacement if it has one. Otherwise it is the member of its kind that `steadiest` gives, and where nothing
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
    return Replacements({part.target: steadiest(model, part, bank, groups[part.target]) for part in open_})


@torch.no_grad()
def steadiest(model: DiffusionModel, concept: Concept, bank: Bank, group: list[int]) -> int:
    """The place among the marginals of the member with the longest way back to the concept.

    What relearning undoes of a replacement moves the prediction back towards the concept. With e_m = eps_*(x_t, t, c_m) on noised images of
    the concept, the prediction of member r on its way to that of the concept f comes nearest to another one after

        d(r) = min_m || e_m - e_r ||^2 / (2 <e_m - e_r, u>),      u = (e_f - e_r) / || e_f - e_r ||

    where m is the concept or any member that lies in that direction. The largest d(r) is chosen. A member near the concept has a short way,
    and so has one behind others: on the way from a disc to a starfish lies a pentagon. A member that is predicted like the concept has
    none.
    """
    at, count = group[:: -(-len(group) // POINTS)], len(concept.others)

    def predicted(prompts: list[str]) -> Tensor:
        parts = []
        for i in range(0, len(at), AT_ONCE):
            x = bank.points[at[i : i + AT_ONCE]]
            cond = model.encode(prompts[i : i + AT_ONCE])
            parts.append(model.predict(replace(x, x_t=x.x_t.to(model.device), t=x.t.to(model.device), cond=cond)).flatten())
        return torch.cat(parts)

    places = range(0, count, -(-count // MEMBERS))
    e_f = predicted([bank.prompts[i].prompt for i in at])
    e = torch.stack([predicted([bank.prompts[i].marginals[place] for i in at]) for place in places])
    return places[int(ways_back(e - e_f).argmax())]


def ways_back(e: Float[Tensor, "members n"]) -> Float[Tensor, " members"]:
    """d(r) of `steadiest` for each member, with e_f as the origin."""
    all_ = torch.cat([e, torch.zeros_like(e[:1])])
    inner = e @ all_.T  # <e_r, e_m>: what follows needs no array of [r, m, n]
    own = inner.diagonal()[:, None]  # || e_r ||^2
    along = own - inner  # <e_m - e_r, -e_r>
    squared = own + all_.square().sum(1) - 2 * inner
    found = torch.where(along > 0, squared * own.sqrt() / (2 * along), torch.inf).min(dim=1).values
    return torch.where(own[:, 0] > 0, found, 0.0)
