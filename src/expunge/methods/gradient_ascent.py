"""Gradient ascent: NegGrad."""

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
    """Learn to denoise pictures of the concept badly, and pictures of the rest well.

        L = - E || eps - eps_theta(x_t, t, c_f) ||^2  +  retain_weight E || eps - eps_theta(x_t', t', c_r) ||^2

    with x_t of the concept's pictures and x_t' of those that must survive. Choose it as the baseline that anything should beat.

    It diverges: the first term has no least value, and what it says is not what to draw instead. The loss does not bound it, and
    `max_grad_norm` hardly does, since Adam divides by the gradient's size; what does is that Adam moves no number by much more than
    `lr` a step, hence few and small steps. More of them end in noise under every prompt; the second term puts that off.

    Source: arXiv 1911.04933 for the negative gradient, there a baseline of a classifier, and the released code of SalUn (arXiv
    2310.12508) for diffusion models and the second term, there weighted by 0.1. Ours are cross-attention and whitened steps
    as the defaults, the equal weights, and pictures by the untouched model in the place of real ones.
    """

    retain_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term. Larger spares the rest and puts off collapse; 0 needs no pictures of it, and is a forward and a
    backward cheaper."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

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
