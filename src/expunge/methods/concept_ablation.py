"""Concept Ablation (CA)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point
from expunge.methods._matching import Matching, Preservation
from expunge.methods.base import StartToken, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class CA(Matching):
    """Match the concept's prediction to the anchor's, on images of the anchor (Concept Ablation).

    On images of an anchor prompt, the network learns to predict under the concept's prompt what it predicts under the anchor's prompt. It
    also continues to denoise these images under the anchor's prompt. Choose it when a natural anchor is known: the concept's prompts then
    give good images of the anchor.

        L = E || eps_theta(x_t, t, c*) - sg[ eps(x_t, t, c) ] ||^2  +  prior_weight E || eps_theta(x_t, t, c) - eps ||^2

    with x_0 an image of the anchor's prompt c, and c* that prompt with the concept in it.

    Source: arXiv 2303.13516, the model-based variant, with keys and values of cross-attention. The paper's derivation has the base model
    in the goal. Its practical loss and the released code have the current model under a stopped gradient, which saves the memory of a
    second network. `goal_by` chooses between the two. Here both are one network, and the goal of the base model is computed once, so
    `reference` is cheaper. The second term is the paper's regularisation. The released code has it for few concepts and not for styles,
    and there its first term is a sum over the channels of the latent while its second is a mean: its weight 1 is 0.25 here, for four
    channels. It keeps the start token's keys and values out of the gradient (`start_token`), as Custom Diffusion (arXiv 2212.04488) does.
    Ours are the choice of divergence and, by default, whitened steps. With `goal_by` reference and `prior_weight` 0 it is f-DMU with KL.
    The preset `ca-published` has the released settings.
    """

    goal_by: Literal["student", "reference"] = "student"
    """Whose prediction under the anchor's prompt is the goal. The student's changes during training, and only the second term keeps it in
    place. The reference's is constant."""
    prior_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term, which denoises images of the anchor under the anchor's prompt. Larger preserves the anchor better; 0 saves
    a forward and a backward pass."""
    start_token: StartToken = "trained"
    """Whether keys and values learn from how they read the start token, whose state is the same in every prompt. `fixed`, the released
    code: it gives no gradient, so that they change less along the one direction that all prompts share. Needs a text encoder with a start
    token, such as CLIP's."""
    variant: Variant = "xattn-kv"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"anchor_pictures", "anchor"})
        return shared | {"reference"} if self.goal_by == "reference" else shared

    @property
    def fixes_start(self) -> bool:
        return self.start_token == "fixed"

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x, network = batch.anchor_pictures, models.student if self.goal_by == "student" else models.reference
        with torch.no_grad():
            return x, network(x.given(batch.anchor))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        prior = Preservation(self.prior_weight, x.given(batch.anchor), denoise=True)
        return self.match_and_preserve(models, x, goal, {"prior": prior})
