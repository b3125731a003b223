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
    """Prefer the concept's pictures less than the untouched model does, stay near it elsewhere, and repair now and then.

        forget phase:  (2 / beta) E_{D_f} softplus( -beta (e_theta - e_*) ) + gamma KL,     t below `forget_until`
        repair phase:  E_{D_r} || eps - eps_theta(x_t, t, c) ||^2 + gamma KL

        e = || eps - eps_hat(x_t, t, c) ||^2 with the same t and eps for both,    KL = E_{D_r} || eps_theta - eps_* ||^2
        gamma <- max(0, gamma + dual_rate (KL / budget - 1))      after each step

    Choose it where a hundred steps must do and nothing is known to put in the concept's place. It climbs: pictures of the concept
    become unlikely, but nothing says what the prompt gives instead, which may be noise, or the concept exaggerated: look at it, or take
    another seed, or let SalUn go first (the preset `resistant`). The pull of a point ends when its error has risen by about 1 / beta; the
    dual variable gamma presses as hard as keeps the retained predictions within the budget. End it when the concept is gone
    (`--stop-when-gone`).

    Source: OpenReview BRJserk9XM for the negative-only diffusion preference, the trust region around the untouched model on retained
    prompts, short phases of forgetting and repair, and 100 steps. The paper gives no formula that could be read: the loss is negative
    preference optimisation (arXiv 2404.05868) with diffusion's likelihood ratio (arXiv 2311.12908), and these formulas, gamma's rule
    and all numbers are ours. `kl` is logged as it is; its gradient is gamma times it. Each phase has Adam moments of its own, in
    whitened steps by default, which are ours too.
    """

    beta: Annotated[float, Gt(0)] = 50.0
    """One over the rise of a point's mean squared error at which it is let go. Larger stops sooner and hurts less; towards 0 it is
    plain gradient ascent, which never ends. What a method before it has done counts as risen: after one, take it smaller, or PURE adds
    nothing."""
    budget: Annotated[float, Gt(0)] = 2e-3
    """The KL that is granted: the mean squared change of predictions on retained points. Smaller holds tighter and forgets less."""
    gamma: Annotated[float, Ge(0)] = 1.0
    """The trust region's weight at the start."""
    dual_rate: Annotated[float, Ge(0)] = 0.2
    """How far gamma goes in a step that spends twice the budget. Larger follows the budget more strictly, but swings; 0 keeps gamma."""
    forget_steps: Annotated[int, Ge(1)] = 5
    """Steps of each forget phase."""
    repair_steps: Annotated[int, Ge(0)] = 2
    """Steps of each repair phase. More repairs better and leaves fewer steps to forget; 0 never repairs."""
    forget_until: Annotated[float, Gt(0), Le(1)] = 0.75
    """Share of the noise path, from the picture on, that the preference sees; points beyond, nearly noise, hold little of a concept."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

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
            said, held = models.student(Noised.cat([x, kept])).split([len(x), len(kept)])
            rise = denoising_error(models, x, said) - denoising_error(models, x, models.reference(x))
            within = x.t < self.forget_until * models.path.horizon
            # Over the number expected within, so that a batch in parts has the same mean as the whole.
            loss = 2 / self.beta * (F.softplus(-self.beta * rise) * within).mean() / self.forget_until
            terms = {"forget": loss}
        else:
            held = models.student(kept)
            terms = {"repair": denoising_error(models, kept, held).mean()}
        kl = squared_error(held, models.reference(kept)).mean()
        return terms | {"kl": kl.detach() + models.notes["gamma"] * (kl - kl.detach())}
