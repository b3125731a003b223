"""EraseDiff: erasing as a constraint on keeping."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error, squared_error
from expunge.diffusion.networks import Models
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class EraseDiff(Objective):
    """Keep what must survive as well as can be among the weights that have forgotten.

        min_theta L_r    such that  theta in argmin L_f
        L_r = E_{D_r} || eps_theta(x_t, t, c) - eps ||^2,     L_f = E_{D_f} || eps_theta(x_t, t, c_f) - eps_*(x_t, t, m) ||^2
        step along  grad L_r + lambda grad L_f,     lambda = max(0, eta - <grad L_f, grad L_r> / || grad L_f ||^2)

    with m the prompt that has another concept of the same kind in its place, drawn at random for each point. Choose it where no
    fixed weight between forgetting and keeping fits: lambda is worked out at each step as the least for which L_f falls by at least
    eta || grad L_f ||^2 for each unit of step, so keeping never undoes forgetting, and where both agree nothing is added.

    Source: arXiv 2401.05779 for the two levels, solved to first order with the dynamic barrier of BOME (arXiv 2209.08709, with
    phi = eta || grad L_f ||^2). For that one needs grad( L_f(theta) - L_f(theta_K) ), where theta_K is theta after K inner steps and
    a constant to the gradient: it *is* grad L_f, so there is no inner loop here. The released code runs one, whose result changes
    no gradient and costs more than half of the work, and for Stable Diffusion takes a fixed lambda. The paper's L_f aims at noise of
    another distribution (its DDPM code: uniform); for Stable Diffusion its code aims at the present model's prediction under another
    prompt. Ours is that of the untouched model, on the very same latents; ours are whitened steps. They, Adam, and lambda for each of
    `accumulate` parts on its own, keep the promise of lambda approximately.
    """

    eta: Annotated[float, Gt(0)] = 1.0
    """How fast L_f must fall, as a share of what its own gradient would give. Larger forgets faster and hurts more."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

    training: ClassVar[Training] = Training(steps=120, lr=6e-4, batch_size=16, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "marginal", "retain", "reference"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, kept, weights = batch.forget, batch.retain, list(models.weights.values())
        forget = squared_error(models.student(x), models.reference(x.given(batch.marginal))).mean()
        f = _slopes(forget, weights, x.x_t.numel())
        retain = denoising_error(models, kept).mean()
        r = _slopes(retain, weights, kept.x_t.numel())
        size, along = _dot(f, f), _dot(f, r)
        barrier = torch.where(size > 0, (self.eta - along / size).clamp(min=0), 0.0)
        return {"retain": retain.detach() + _towards(weights, r), "forget": forget.detach() + barrier * _towards(weights, f)}


def _slopes(loss: Float[Tensor, ""], weights: list[Tensor], count: int) -> list[Tensor]:
    """The gradient of a mean over `count` numbers: of their sum, divided, since in half precision that of the mean would vanish."""
    return [g / count for g in torch.autograd.grad(loss * count, weights, allow_unused=True, materialize_grads=True)]


def _dot(a: Iterable[Tensor], b: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _towards(weights: list[Tensor], slopes: list[Tensor]) -> Float[Tensor, ""]:
    """Zero, with these slopes: what stands for a loss whose gradient is known, so that no backward goes through a network twice."""
    return _dot([w - w.detach() for w in weights], slopes)
