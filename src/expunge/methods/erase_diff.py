"""EraseDiff: retaining under the constraint of forgetting."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error, squared_error
from expunge.diffusion.networks import Models
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class EraseDiff(Objective):
    """Minimise the retain loss, subject to a minimal decrease of the forget loss (EraseDiff).

    Each step follows the gradient of the retain loss plus lambda times that of the forget loss. lambda is the smallest value for which L_f
    falls by at least eta || grad L_f ||^2 per unit of step, so retaining never undoes forgetting. Where the retain gradient alone achieves
    that, lambda is 0. Choose it where no fixed weight between forgetting and retaining works.

        min_theta L_r    such that  theta in argmin L_f
        L_r = E_{D_r} || eps_theta(x_t, t, c) - eps ||^2,     L_f = E_{D_f} || eps_theta(x_t, t, c_f) - eps_*(x_t, t, m) ||^2
        step along  grad L_r + lambda grad L_f,     lambda = max(0, eta - <grad L_f, grad L_r> / || grad L_f ||^2)

    with m a prompt of something else (`wrong_label`).

    Source: arXiv 2401.05779 for the bilevel problem, solved to first order with the dynamic barrier of BOME (arXiv 2209.08709, with phi =
    eta || grad L_f ||^2). BOME needs grad( L_f(theta) - L_f(theta_K) ), where theta_K is theta after K inner steps and is constant to the
    gradient. This equals grad L_f, so there is no inner loop here. The released code runs one, which changes no gradient, leaves its
    moments in Adam, and takes more than half of the time. For Stable Diffusion it has a fixed lambda. The paper's L_f has noise of another
    distribution as its target (its DDPM code: uniform); its code for Stable Diffusion has the current model's prediction under one other
    prompt. Ours are the base model's prediction as the target, on the same latents, m sampled for each point, and whitened steps. Whitened
    steps, Adam, and a separate lambda for each of the `accumulate` parts of a batch satisfy the constraint approximately. The preset
    `erase-diff-published` has the released settings.
    """

    eta: Annotated[float, Gt(0)] = 1.0
    """How fast L_f must fall, relative to a step along its own gradient. Larger forgets faster and damages more."""
    multiplier: Annotated[float, Ge(0)] | None = None
    """A constant lambda, as in the released code for Stable Diffusion (1 in its commands), in place of the smallest that `eta` allows.
    Larger forgets faster and damages more; none computes it in each step."""
    goal_by: Literal["reference", "student"] = "reference"
    """Whose prediction under m is the goal of L_f: the base model's, or, as in the released code, that of the network itself, which changes
    during training."""
    wrong_label: Literal["marginal", "anchor"] = "marginal"
    """The prompt m. `marginal`: the prompt with another member of the kind in place of the concept, sampled for each point. `anchor`: the
    prompt with the anchor for the concept, one for all points, as in the released code, whose prompt is "a photo of a pokemon"."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"forget", self.wrong_label, "retain"})
        return shared | {"reference"} if self.goal_by == "reference" else shared

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, kept, weights = batch.forget, batch.retain, list(models.weights.values())
        prediction, network = models.student(x), models.reference if self.goal_by == "reference" else models.student
        with torch.no_grad():
            goal = network(x.given(getattr(batch, self.wrong_label)))
        forget = squared_error(prediction, goal).mean()
        f = _gradients(forget, weights, x.x_t.numel())
        retain = denoising_error(models, kept).mean()
        r = _gradients(retain, weights, kept.x_t.numel())
        size, along = _dot(f, f), _dot(f, r)
        adaptive = torch.where(size > 0, (self.eta - along / size).clamp(min=0), 0.0)
        barrier = adaptive if self.multiplier is None else torch.full_like(adaptive, self.multiplier)
        return {"retain": retain.detach() + _linear(weights, r), "forget": forget.detach() + barrier * _linear(weights, f)}


def _gradients(loss: Float[Tensor, ""], weights: list[Tensor], count: int) -> list[Tensor]:
    """The gradients of a mean over `count` numbers. They are computed from the sum, because those of the mean would vanish in half
    precision."""
    return [g / count for g in torch.autograd.grad(loss * count, weights, allow_unused=True, materialize_grads=True)]


def _dot(a: Iterable[Tensor], b: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _linear(weights: list[Tensor], gradients: list[Tensor]) -> Float[Tensor, ""]:
    """Zero, with the given gradients. It replaces a loss whose gradient is known, so that no second backward pass is needed."""
    return _dot([w - w.detach() for w in weights], gradients)
