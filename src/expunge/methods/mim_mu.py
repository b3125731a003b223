"""MiM-MU: unlearning by minimising the mutual information between a concept and the picture."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from torch.nn import functional as F

from expunge.objective import Objective, Training, Variant
from expunge.scope import SCOPES, Scope
from expunge.types import Batch, Cond, Models, Need, Terms


@dataclass(frozen=True)
class MiMMU(Objective):
    """Under the concept's prompts, predict what the untouched model predicts without the concept.

    Choose it first: it needs no retain data, no anchor and no sampled trajectories, and hurts little else. The mutual
    information of concept and picture is bounded by the divergence between the student given the concept and the untouched
    model's marginal, I(x; c) <= E KL(p_theta(x|c) || p_*(x)); in noise predictions, with the U-Net's Jacobian dropped,

        L = E_{x_0 ~ D_f, t, eps} || eps_theta(x_t, t, c_f) - sg[ eps_* - eta (eps_*(x_t, t, c_f) - eps_*) ] ||^2

    where eps_* is the untouched model under `target_as`.

    Source: arXiv 2603.00992 for the principle, the dropped Jacobian, cross-attention and data made only of the concept. The
    bound's derivation, `eta`, and the `context` and `marginal` targets are ours: in a prompt that also holds innocent words
    the information to remove is that of the concept *given the other words*, so the target is the prediction given them. The
    paper's is `null`.
    """

    target_as: Literal["null", "context", "marginal"] = "marginal"
    """What the concept's prompts are to predict: the untouched model's prediction for `null`, the empty prompt; for `context`,
    the prompt with the concept deleted; for `marginal`, the prompt with another concept of the same kind in its place, drawn at
    random for each point, which estimates the same conditional where the bare context is no natural prompt. `null` and
    `context` evaluate no prompt of another concept; `marginal` evaluates the untouched model (only) under retained prompts, on
    noised pictures of the concept. None of them uses a picture of anything else."""
    eta: Annotated[float, Ge(0)] = 0.0
    """Push past the target, away from the concept (the negative guidance of ESD's paper). Larger forgets harder; above 1 the
    concept's prompts leave the natural pictures."""
    null_lock: Annotated[float, Ge(0)] = 0.0
    """Weight of a term that holds the empty prompt's prediction, which guidance also uses. Larger keeps the unprompted model
    closer; costs a forward and a backward."""
    variant: Variant = "xattn"
    """Which weights are trained: keys and values of cross-attention, all of cross-attention, all but it, or everything."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=24)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"forget", "reference"})
        return shared if self.target_as == "null" else shared | {self.target_as}

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def _without_concept(self, batch: Batch) -> Cond:
        match self.target_as:
            case "null":
                return batch.null
            case "context":
                return batch.context
            case "marginal":
                return batch.marginal

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x = batch.forget
        target = models.reference(x.given(self._without_concept(batch)))
        if self.eta:
            target = target - self.eta * (models.reference(x) - target)
        terms = {"forget": F.mse_loss(models.student(x), target)}
        if self.null_lock:
            unprompted = x.given(batch.null)
            terms["null_lock"] = self.null_lock * F.mse_loss(models.student(unprompted), models.reference(unprompted))
        return terms
