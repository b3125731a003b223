"""MiM-MU: unlearning by minimising the mutual information between a concept and the picture."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Latents, Point, together
from expunge.methods._matching import Hold, Matching
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class MiMMU(Matching):
    """Under the concept's prompts, predict what the untouched model predicts without the concept.

    Choose it first: it needs no retain pictures, no anchor and no sampled trajectories, and hurts little else. The mutual
    information of concept and picture is bounded by the divergence between the student given the concept and the untouched
    model's marginal,

        I_theta(x; c)  <=  I_theta(x; c) + KL(p_theta(x) || p_*(x))  =  E_c KL(p_theta(x|c) || p_*(x))

    in noise predictions, with the U-Net's Jacobian dropped, and m the prompt that speaks for the marginal (`target_as`):

        L = || eps_theta(x_t, t, c_f) - sg[ eps_*(x_t, t, m) - eta (eps_*(x_t, t, c_f) - eps_*(x_t, t, m)) ] ||^2
            + lock || eps_theta(x_t, t, m) - sg[ eps_*(x_t, t, m) ] ||^2,          x_0 ~ D_f,  t,  eps

    The first line draws the concept to the marginal; the second keeps the marginal where it is, the bound's other half. Without
    it a network learns to see the concept in the *picture* and to answer so under any prompt, its siblings' first. Steps are whitened
    by default (`whiten`), so that what sets the concept's words apart from its siblings' is learnt as fast as what they share.

    Source: arXiv 2603.00992 for the principle, the dropped Jacobian, cross-attention and data made only of the concept. The
    bound's derivation, `eta`, the locks, whitened steps, and the `context` and `marginal` targets are ours: in a prompt that also
    holds innocent words the information to remove is that of the concept *given the other words*, so the target is the prediction
    given them. The paper's form is `target_as` null with `lock`, `eta` and `whiten` 0.
    """

    target_as: Literal["null", "context", "marginal"] = "marginal"
    """The prompt m whose prediction the concept's prompts are to take over: `null`, the empty prompt; `context`, the prompt with
    the concept deleted; `marginal`, the prompt with another concept of the same kind in its place, drawn at random for each point,
    which estimates the same conditional where the bare context is no natural prompt. `null` and `context` evaluate no prompt of
    another concept; `marginal` evaluates retained prompts, on noised pictures of the concept. No picture of anything else is used."""
    lock: Annotated[float, Ge(0)] = 1.0
    """Weight of the second line, which holds the student's own prediction under m. Larger spares siblings more and forgets more
    slowly; 0 is the plain method, a forward and a backward cheaper."""
    eta: Annotated[float, Ge(0)] = 0.25
    """Push past the target, away from the concept (the negative guidance of ESD's paper). Larger forgets harder; above 1 the
    concept's prompts leave the natural pictures. At 0 they give the mean of what others would, which where others resemble the
    concept (a pentagon between square and hexagon) may still look like it."""
    null_lock: Annotated[float, Ge(0)] = 0.0
    """Weight of a term that holds the empty prompt's prediction, which guidance also uses. Larger keeps the unprompted model
    closer; costs a forward and a backward. With the null target it is the same as `lock`."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, points=1024, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"forget", "reference"})
        return shared if self.target_as == "null" else shared | {self.target_as}

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def _m(self, batch: Batch) -> Cond:
        prompt: Cond = getattr(batch, self.target_as)
        return prompt

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.forget
        if not self.eta:
            return x, models.reference(x.given(self._m(batch)))
        marginal, concept = together(models.reference, x.given(self._m(batch)), x)
        return x, marginal - self.eta * (concept - marginal)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        held = {"lock": Hold(self.lock, x.given(self._m(batch))), "null_lock": Hold(self.null_lock, x.given(batch.null))}
        return self.match_and_hold(models, x, goal, held)
