"""Saliency unlearning (SalUn)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from expunge.diffusion.batch import Batch
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Latents, Noised, together
from expunge.methods._relabelling import Relabelling
from expunge.methods._saliency import select_salient
from expunge.methods.base import Training


@dataclass(frozen=True)
class SalUn(Relabelling):
    """Fine-tune on wrong labels, updating only the most salient weights (SalUn).

    The loss is that of random relabelling. Only the weights for which the gradient of the concept's denoising loss is largest may change.
    Choose it to compare with published results, or as the first step of the preset `picture-then-name`. On the canvas the mask had no
    effect: UA is 73 % with it and 76 % without, with all weights trained (`--variant full --lr 1e-4`; docs/results/index.md).

        m = 1[ | grad E || eps - eps_*(x_t, t, c_f) ||^2 | >= gamma ]       at the base model's weights; only weights in m change, on
        L = E || eps_theta(x_t, t, c_f) - sg[ eps_theta(x_t, t, c') ] ||^2  +  retain_weight E || eps - eps_theta(x_t', t', c_r) ||^2

    with x_t of images of the concept, c' their prompt with another member of the kind in place of the concept, and x_t' of images of the
    retain prompts.

    Source: arXiv 2310.12508 for the loss and the mask: the gradient of the whole loss, summed over the images before its magnitude is
    taken, with gamma the median over all weights together. The released code computes the gradient of the mask through a guided
    prediction (`mask_guidance` 7.5). Here the mask has the denoising loss under the prompt, without guidance, like training. c' is
    sampled for each point; the released code has one (`wrong_label` anchor). The released mask ranks all weights of the network, and the
    published commands train all weights (`--variant full`, the preset `salun-published`). With another variant the median there is still
    that of the whole network; here it is that of the weights that are trained. Ours are the choice of divergence, and images by the base
    model instead of real ones.
    """

    share: Annotated[float, Gt(0), Le(1)] = 0.5
    """The share of the trained weights that may change, the most salient first. Smaller changes less; 1 is random relabelling."""
    mask_batches: Annotated[int, Ge(1)] = 16
    """Batches of images of the concept from which the mask is computed, each a forward and a backward pass. More rank the weights more
    reliably."""
    mask_guidance: Annotated[float, Ge(0)] = 0.0
    """w: the mask's loss is that of (1 + w) eps(x_t, t, c_f) - w eps(x_t, t, "") in place of eps(x_t, t, c_f). 0 is no guidance, at half
    the cost; 7.5 is the released code's. Larger ranks weights more by what the prompt adds to the prediction."""
    variant: Literal["xattn-kv", "xattn", "non-xattn", "full"] = "xattn"
    """Which weights are ranked, and trained in part: keys and values of cross-attention, all of cross-attention, all others, or all
    weights. Low-rank additions are not allowed: half of their numbers have no gradient at the start."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16)

    @property
    def reads_null(self) -> bool:
        return self.mask_guidance > 0

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        gradients = {name: torch.zeros_like(weight) for name, weight in models.weights.items()}
        for i in range(self.mask_batches):
            batch = batches(-1 - i)
            x = batch.forget
            for one in (x[[row]] for row in range(len(x))):  # point by point, because a whole batch may not fit into memory
                # A sum over the latent gives the same ranking as a mean, and its gradients do not vanish in half precision.
                loss = denoising_error(models, one, self._guided(models, one, batch.null)).mean() * one.goal.numel()
                for total, gradient in zip(gradients.values(), torch.autograd.grad(loss, list(models.weights.values())), strict=True):
                    total += gradient
        return super().prepare(models, batches) | {f"mask.{name}": mask for name, mask in select_salient(gradients, self.share).items()}

    def _guided(self, models: Models, x: Noised, null: Cond) -> Latents:
        """The prediction of the mask's loss."""
        if not self.mask_guidance:
            return models.student(x)
        given, without = together(models.student, x, x.given(null))
        return (1 + self.mask_guidance) * given - self.mask_guidance * without

    def masks(self, notes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix("mask."): note for name, note in notes.items() if name.startswith("mask.")}
