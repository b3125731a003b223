"""The loss of random relabelling and SalUn: match the prediction under a wrong label."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point
from expunge.methods._matching import Matching, Preservation
from expunge.methods.base import Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class Relabelling(Matching):
    """The loss of random relabelling. Subclasses choose the weights that are trained."""

    retain_weight: Annotated[float, Ge(0)] = 0.5
    """Weight of the second term, which denoises the retain set. Larger preserves it more and forgets more slowly; 0 needs no retain set and
    saves a forward and a backward pass."""
    wrong_label: Literal["marginal", "anchor"] = "marginal"
    """The wrong label c'. `marginal`: the prompt with another member of the kind in place of the concept, sampled for each point.
    `anchor`: the prompt with the anchor for the concept, one label for all points, as in SalUn's released code; without an anchor that is
    the prompt without the concept, and on a class-conditional model the next class."""
    variant: Variant = "full"
    """Which weights are trained: keys and values of cross-attention, all of cross-attention, all others, all weights, or low-rank additions
    to cross-attention."""

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"forget", self.wrong_label})
        return shared | {"retain"} if self.retain_weight else shared

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.forget
        with torch.no_grad():
            return x, models.student(x.given(getattr(batch, self.wrong_label)))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        preserved = {"retain": Preservation(self.retain_weight, batch.retain, denoise=True)} if self.retain_weight else {}
        return self.match_and_preserve(models, x, goal, preserved)
