"""SPM: concept semi-permeable membranes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point, together
from expunge.methods._matching import Hold, Matching
from expunge.methods.base import Training
from expunge.models.scopes import Scope


@dataclass(frozen=True)
class SPM(Matching):
    """Erase by adapters of one dimension, and anchor what other prompts say of the same latents.

        L = || eps_theta(x_t, t, c) - [ eps_*(x_t, t, s) - eta (eps_*(x_t, t, c) - eps_*(x_t, t, s)) ] ||^2
            + anchor_weight || eps_theta(x_t, t, c') - eps_*(x_t, t, c') ||^2,     W = W_* + B A, of rank 1, in every linear layer

    Choose it where the change must be tiny: of each matrix a row and a column. What is hard to erase needs more `rank` or steps.

    Source: arXiv 2312.16145, which draws c' from all of language, the likelier the less it is like the concept (its code: random
    embeddings, weight 1000), and x_t from the student's partial samplings; ours are prompts with another of the concept's kind in
    its place, drawn at random for each point, and whole trajectories. Left out are adapters of convolutions and facilitated
    transport: here W_* + B A serves every prompt alike.
    """

    eta: Annotated[float, Ge(0)] = 1.0
    """Guidance past the surrogate, away from the concept. Larger forgets harder and hurts more; 0 only takes the surrogate over."""
    surrogate: Literal["null", "context", "anchor"] = "anchor"
    """The prompt s that the concept becomes: empty (the paper), without the concept, or with the anchor (if given) in its place."""
    anchor_weight: Annotated[float, Ge(0)] = 3.0
    """Weight of the second line. Larger spares the concept's own kind more and forgets more slowly; 0 is cheaper."""
    rank: Annotated[int, Ge(1)] = 1
    """Dimensions of each adapter; the paper's is 1. More can forget more, and hurt more."""
    variant: Literal["transformer", "xattn"] = "transformer"
    """Where the adapters sit: in every linear layer of the transformer blocks (the paper), or of cross-attention alone."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-3, batch_size=24, pictures=48)

    @property
    def needs(self) -> frozenset[Need]:
        anchors: frozenset[Need] = frozenset({"marginal"} if self.anchor_weight else ())
        return anchors | ({"trajectory", "reference"} if self.surrogate == "null" else {"trajectory", "reference", self.surrogate})

    @property
    def scope(self) -> Scope:
        return Scope(f"{self.variant}-rank-{self.rank}", rank=self.rank, of=self.variant)

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.trajectory
        neutral, concept = together(models.reference, x.given(getattr(batch, self.surrogate)), x)
        return x, neutral - self.eta * (concept - neutral)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        held = {"anchoring": Hold(self.anchor_weight, x.given(batch.marginal))} if self.anchor_weight else {}
        return self.match_and_hold(models, x, goal, held)
