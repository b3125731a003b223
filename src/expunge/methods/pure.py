"""PURE: preference unlearning with repair."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error, squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Noised
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class PURE(Objective):
    """Lower the likelihood of concept images within a trust region, alternating with repair (PURE).

    Forget phases increase the student's error on images of the concept relative to the base model's. Repair phases train on the retain set.
    Both keep the predictions on the retain set near the base model's. Choose it where a hundred steps must be enough and no replacement of
    the concept is known. PURE ascends: images of the concept become unlikely, but nothing says what the prompt gives instead, which may be
    noise or an exaggerated concept. Inspect the images; if they are bad, try another seed, or run SalUn first (the preset `resistant`). The
    gradient of a point vanishes when its error has risen by about 1 / beta. The dual variable gamma grows until the predictions on the
    retain set are within the budget. Stop when the concept is gone (`--stop-when-gone`).

        forget phase:  (2 / beta) E_{D_f} softplus( -beta (e_theta - e_*) ) + gamma KL,     t below `forget_until`
        repair phase:  E_{D_r} || eps - eps_theta(x_t, t, c) ||^2 + gamma KL

        e = || eps - eps_hat(x_t, t, c) ||^2 with the same t and eps for both,    KL = E_{D_r} || eps_theta - eps_* ||^2
        gamma <- max(0, gamma + dual_rate (KL / budget - 1))      after each step

    Source: OpenReview BRJserk9XM for the negative-only diffusion preference, the trust region around the base model on retain prompts,
    short phases of forgetting and repair, and 100 steps. We could read no formula of the paper: the loss is negative preference
    optimisation (arXiv 2404.05868) with diffusion's likelihood ratio (arXiv 2311.12908), and these formulas, the rule for gamma and all
    numbers are ours. `kl` is logged unweighted; its gradient is weighted by gamma. Each phase has its own Adam moments. Whitened steps, the
    default, are ours.
    """

    beta: Annotated[float, Gt(0)] = 50.0
    """The inverse of the rise of a point's mean squared error at which its gradient vanishes. Larger stops sooner and damages less; towards
    0 it becomes gradient ascent, which does not stop. What an earlier method has changed counts as a rise, so after one choose a smaller
    value, or PURE changes nothing."""
    budget: Annotated[float, Gt(0)] = 2e-3
    """The allowed KL: the mean squared change of predictions on the retain set. Smaller preserves more and forgets less."""
    gamma: Annotated[float, Ge(0)] = 1.0
    """Initial weight of the trust region. Larger preserves more in the first steps."""
    dual_rate: Annotated[float, Ge(0)] = 0.2
    """How much gamma rises in a step that uses twice the budget. Larger follows the budget more closely but oscillates; 0 keeps gamma
    constant."""
    forget_steps: Annotated[int, Ge(1)] = 5
    """Steps of each forget phase."""
    repair_steps: Annotated[int, Ge(0)] = 2
    """Steps of each repair phase. More repair better and leave fewer steps to forget; 0 has no repair phases."""
    forget_until: Annotated[float, Gt(0), Le(1)] = 0.75
    """Share of the noise path, from the image on, that the forget phase uses. Points beyond it are nearly noise and contain little of a
    concept."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=100, lr=6e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "retain", "reference"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def phase(self, step: int) -> str:
        return "forget" if step % (self.forget_steps + self.repair_steps) < self.forget_steps else "repair"

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        return {"gamma": torch.tensor(self.gamma)}

    def update(self, notes: Mapping[str, Tensor], terms: Mapping[str, float]) -> dict[str, Tensor]:
        return {"gamma": (notes["gamma"] + self.dual_rate * (terms["kl"] / self.budget - 1)).clamp(min=0)}

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, kept = batch.forget, batch.retain
        if self.phase(batch.step) == "forget":
            prediction, retained = models.student(Noised.cat([x, kept])).split([len(x), len(kept)])
            rise = denoising_error(models, x, prediction) - denoising_error(models, x, models.reference(x))
            within = x.t < self.forget_until * models.path.horizon
            # Divided by the expected number of points below it, so that the parts of a batch have the same mean as the whole.
            loss = 2 / self.beta * (F.softplus(-self.beta * rise) * within).mean() / self.forget_until
            terms = {"forget": loss}
        else:
            retained = models.student(kept)
            terms = {"repair": denoising_error(models, kept, retained).mean()}
        kl = squared_error(retained, models.reference(kept)).mean()
        return terms | {"kl": kl.detach() + models.notes["gamma"] * (kl - kl.detach())}
