"""Gradient ascent (NegGrad)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class GradientAscent(Objective):
    """Ascend the denoising loss on the concept, descend it on the retain set (NegGrad).

    Choose it as a baseline that every other method should beat. It diverges: the first term has no minimum and does not say what the
    concept's prompts should give instead. The loss is not bounded, and `max_grad_norm` hardly limits it, since Adam divides by the size of
    the gradient. What limits it is that Adam changes no weight by much more than `lr` in a step, so steps must be few and small. More of
    them end in noise under every prompt. The second term delays that.

        L = - E || eps - eps_theta(x_t, t, c_f) ||^2  +  retain_weight E || eps - eps_theta(x_t', t', c_r) ||^2

    with x_t of images of the concept and x_t' of images of the retain prompts.

    Source: arXiv 1911.04933 for the negative gradient, a baseline for classifiers there, and the released code of SalUn (arXiv 2310.12508)
    for diffusion models and the second term, with weight 0.1 there. Ours are cross-attention and whitened steps as the defaults, the equal
    weights, and images by the base model instead of real ones.
    """

    retain_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term. Larger preserves more and delays the collapse; 0 needs no retain set and saves a forward and a backward
    pass."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=40, lr=3e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "retain"}) if self.retain_weight else frozenset({"forget"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        terms = {"forget": -denoising_error(models, batch.forget).mean()}
        if self.retain_weight:
            terms["retain"] = self.retain_weight * denoising_error(models, batch.retain).mean()
        return terms
