"""Concept semi-permeable membranes (SPM)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point, together
from expunge.methods._matching import Matching, Preservation
from expunge.methods.base import Training
from expunge.models.scopes import Scope


@dataclass(frozen=True)
class SPM(Matching):
    """Erase with rank-one adapters, anchoring other prompts on the same latents (SPM).

    Adapters in every linear layer learn a prediction under the concept's prompt that is pushed away from the concept, and the base model's
    prediction under prompts of other concepts. Choose it where the change must be small: one row and one column for each matrix. A concept
    that is hard to erase needs a larger `rank` or more steps.

        L = || eps_theta(x_t, t, c) - [ eps_*(x_t, t, s) - eta (eps_*(x_t, t, c) - eps_*(x_t, t, s)) ] ||^2
            + anchor_weight || eps_theta(x_t, t, c') - eps_*(x_t, t, c') ||^2,     W = W_* + B A, of rank 1, in every linear layer

    Source: arXiv 2312.16145. There c' is sampled from all of language, with a higher probability the less it resembles the concept (its
    code: random embeddings, weight 1000), and x_t from partial samplings of the student. Ours are prompts with another concept of the same
    kind, sampled for each point, and whole trajectories. Adapters of convolutions and facilitated transport are left out: here W_* + B A
    applies to every prompt equally.
    """

    eta: Annotated[float, Ge(0)] = 1.0
    """How far the goal lies beyond the surrogate, away from the concept. Larger forgets more and damages more; 0 gives the surrogate."""
    surrogate: Literal["null", "context", "anchor"] = "anchor"
    """The prompt s that the concept becomes: empty (the paper), without the concept, or with the anchor (if there is one) in its place."""
    anchor_weight: Annotated[float, Ge(0)] = 3.0
    """Weight of the second line. Larger preserves the concept's kind more and forgets more slowly; 0 is cheaper."""
    rank: Annotated[int, Ge(1)] = 1
    """The rank of each adapter; the paper's is 1. A larger rank can forget more and damage more."""
    variant: Literal["transformer", "xattn"] = "transformer"
    """Where the adapters are: in every linear layer of the transformer blocks (the paper), or of cross-attention alone."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-3, batch_size=24, pictures=48)

    @property
    def needs(self) -> frozenset[Need]:
        anchors: frozenset[Need] = frozenset({"marginal"} if self.anchor_weight else ())
        return anchors | ({"trajectory", "reference"} if self.surrogate == "null" else {"trajectory", "reference", self.surrogate})

    @property
    def reads_null(self) -> bool:
        return self.surrogate == "null"

    @property
    def scope(self) -> Scope:
        return Scope(f"{self.variant}-rank-{self.rank}", rank=self.rank, of=self.variant)

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.trajectory
        neutral, concept = together(models.reference, x.given(getattr(batch, self.surrogate)), x)
        return x, neutral - self.eta * (concept - neutral)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        preserved = {"anchoring": Preservation(self.anchor_weight, x.given(batch.marginal))} if self.anchor_weight else {}
        return self.match_and_preserve(models, x, goal, preserved)
