"""MiM-MU: unlearning by minimising the mutual information of concept and image."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Latents, Point, together
from expunge.methods._matching import Matching, Preservation
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class MiMMU(Matching):
    """Match the concept's prediction to the base model's prediction without the concept (MiM-MU).

    Choose it first: it needs no retain set, no anchor and no sampled trajectories, and damages little else. The mutual information of
    concept and image is bounded by the divergence between the student given the concept and the base model's marginal,

        I_theta(x; c)  <=  I_theta(x; c) + KL(p_theta(x) || p_*(x))  =  E_c KL(p_theta(x|c) || p_*(x))

    In noise predictions, with the Jacobian of the U-Net dropped, and with m the prompt of the marginal (`target_as`), the loss is

        L = || eps_theta(x_t, t, c_f) - sg[ eps_*(x_t, t, m) - eta (eps_*(x_t, t, c_f) - eps_*(x_t, t, m)) ] ||^2
            + lock || eps_theta(x_t, t, m) - sg[ eps_*(x_t, t, m) ] ||^2,          x_0 ~ D_f,  t,  eps

    The first line moves the concept's prediction to the marginal. The second, the other part of the bound, keeps the marginal in place.
    Without it, a network learns to recognise the concept in the *image* and to change its prediction under any prompt, first under those of
    siblings. Steps are whitened by default (`whiten`), so that the network learns what distinguishes the concept's words from those of its
    siblings as fast as what they have in common.

    Source: arXiv 2603.00992 for the principle, the dropped Jacobian, cross-attention and data made only of the concept. The derivation of
    the bound, `eta`, the locks, whitened steps, and the targets `context` and `marginal` are ours. In a prompt with other words, the
    information to remove is that of the concept *given the other words*, so the target is the prediction given them. The paper's form has
    `target_as` null and `lock`, `eta` and `whiten` 0.
    """

    target_as: Literal["null", "context", "marginal"] = "marginal"
    """The prompt m, whose prediction the concept's prompts learn: `null`, the empty prompt; `context`, the prompt with the concept deleted;
    `marginal`, the prompt with another concept of the same kind in place of the concept, sampled for each point, which estimates the same
    conditional where the context alone is no natural prompt. `null` and `context` evaluate no prompt of another concept. `marginal`
    evaluates retain prompts, on noised images of the concept. No image of anything else is used."""
    lock: Annotated[float, Ge(0)] = 1.0
    """Weight of the second line, which keeps the student's prediction under m. Larger preserves siblings better and forgets more slowly; 0
    is the plain method and saves a forward and a backward pass."""
    eta: Annotated[float, Ge(0)] = 0.25
    """How far the goal lies beyond the marginal, away from the concept (the negative guidance of ESD's paper). Larger forgets more; above 1
    the concept's prompts give unnatural images. At 0 they give the mean of what other concepts would give. Where these resemble the concept
    (a pentagon between square and hexagon), so may the mean."""
    null_lock: Annotated[float, Ge(0)] = 0.0
    """Weight of a term that keeps the prediction under the empty prompt, which guidance also uses. Larger keeps it closer to the base
    model, for a forward and a backward pass. With the target `null` it is the same as `lock`."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, points=1024, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"forget", "reference"})
        return shared if self.target_as == "null" else shared | {self.target_as}

    @property
    def reads_null(self) -> bool:
        return self.target_as == "null" or self.null_lock > 0

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def _marginal(self, batch: Batch) -> Cond:
        """The prompts m of a batch."""
        prompt: Cond = getattr(batch, self.target_as)
        return prompt

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        x = batch.forget
        if not self.eta:
            return x, models.reference(x.given(self._marginal(batch)))
        marginal, concept = together(models.reference, x.given(self._marginal(batch)), x)
        return x, marginal - self.eta * (concept - marginal)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, goal = self.goal(models, batch)
        preserved = {
            "lock": Preservation(self.lock, x.given(self._marginal(batch))),
            "null_lock": Preservation(self.null_lock, x.given(batch.null)),
        }
        return self.match_and_preserve(models, x, goal, preserved)
