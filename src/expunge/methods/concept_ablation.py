"""CA: Concept Ablation."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point
from expunge.methods._matching import Hold, Matching
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class CA(Matching):
    """On pictures of the anchor, let the concept's prompt do what the anchor's prompt does, and go on drawing the anchor.

        L = E || eps_theta(x_t, t, c*) - sg[ eps(x_t, t, c) ] ||^2  +  prior_weight E || eps_theta(x_t, t, c) - eps ||^2

    with x_0 a picture of the anchor's prompt c, and c* that prompt with the concept in it. Choose it when a natural anchor is known:
    the concept's prompts then give good pictures of the anchor.

    Source: arXiv 2303.13516, the model-based variant, with keys and values of cross-attention. Its derivation has the untouched model
    in the goal, its practical loss and the released code the present one under a stopped gradient, which saves a second network in
    memory; `goal_by` chooses (here both are one network, and the untouched model's goal is computed once, so it is the cheaper one).
    The second term is the paper's regularisation; the released code has it for some concepts only, with this weight. Ours are the
    choice of divergence and, by default, whitened steps. With the untouched model's goal and `prior_weight` 0 it is f-DMU by KL.
    """

    goal_by: Literal["student", "reference"] = "student"
    """Whose prediction under the anchor's prompt is the goal. The student's moves along with training, held by the second term alone."""
    prior_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term, denoising the anchor's pictures under the anchor's prompts. Larger keeps the anchor closer; 0 is a
    forward and a backward cheaper."""
    variant: Variant = "xattn-kv"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"anchor_pictures", "anchor"})
        return shared | {"reference"} if self.goal_by == "reference" else shared

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x, network = batch.anchor_pictures, models.student if self.goal_by == "student" else models.reference
        with torch.no_grad():
            return x, network(x.given(batch.anchor))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        prior = Hold(self.prior_weight, x.given(batch.anchor), denoise=True)
        return self.match_and_hold(models, x, goal, {"prior": prior})
