"""Selective Amnesia (SA)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Noised
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class SA(Objective):
    """Train the concept's prompts on surrogate images with elastic weight consolidation (Selective Amnesia).

    The network learns other images for the concept's prompts, continues to train on the retain set, and is penalised for changing weights
    that matter for the retain set. Choose it as the approach of continual learning, when good images are available to replace the concept.
    Its goal is the true noise, so it is slower and noisier than methods with a teacher's prediction.

        L = E_{q(x_0 | c_f)} || eps_theta(x_t, t, c_f) - eps ||^2  +  replay_weight E_{D_r} || eps_theta(x_t, t, c) - eps ||^2
            + ewc_weight sum_i F_i / 2 (theta_i - theta_*i)^2,     F_i = E_{D_r} ( d/dtheta_i || eps_* - eps ||^2 )^2, mean 1

    Source: arXiv 2305.10120. F is the diagonal of the Fisher information, as in elastic weight consolidation (arXiv 1612.00796). It is
    computed at the start from the base model's images of the retain prompts: from the square of each point's gradient, not of a batch's,
    which is smaller. Ours: q is images of another concept of the same kind, sampled for each point; the squared error is the mean over a
    latent; and F is divided by its mean over the trained weights, so that `ewc_weight` has the same meaning for every model. (The released
    code does not scale F and tunes the weight for each model.) With low-rank additions F is that of the factors, of which one has no
    gradient at the start, so it preserves little.
    """

    ewc_weight: Annotated[float, Ge(0)] = 0.01
    """Weight of the last term. Larger changes the weights that matter for the retain set less, and forgets more slowly; 0 computes no F."""
    replay_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term. Larger preserves the retain set more; 0 leaves that to the last term and saves a forward and a backward
    pass."""
    fisher_points: Annotated[int, Ge(1)] = 512
    """Points over which F is averaged, at most those in the bank. More reduce its noise; each costs a forward and a backward pass of its
    own."""
    variant: Variant = "full"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=160, lr=5e-4, batch_size=16)

    @property
    def needs(self) -> frozenset[Need]:
        shared: frozenset[Need] = frozenset({"surrogate"})
        return shared | {"retain"} if self.ewc_weight or self.replay_weight else shared

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        if not self.ewc_weight:
            return {}
        fisher = [torch.zeros_like(w) for w in models.weights.values()]
        for x in islice(_iterate_retain_points(batches), self.fisher_points):
            error = denoising_error(models, x).sum() * x.goal.numel()  # the gradient of the mean would vanish in half precision
            for f, g in zip(fisher, torch.autograd.grad(error, list(models.weights.values()), allow_unused=True), strict=True):
                f += 0.0 if g is None else g.square()
        mean = sum(f.sum() for f in fisher) / sum(f.numel() for f in fisher)
        return {f"fisher.{n}": f / mean if mean > 0 else f for n, f in zip(models.weights, fisher, strict=True)}

    def __call__(self, models: Models, batch: Batch) -> Terms:
        terms = {"surrogate": denoising_error(models, batch.surrogate).mean()}
        if self.replay_weight:
            terms["retain"] = self.replay_weight * denoising_error(models, batch.retain).mean()
        if self.ewc_weight:
            penalties = [(models.notes[f"fisher.{n}"] * (w - models.initial[n]).square()).sum() for n, w in models.weights.items()]
            terms["ewc"] = self.ewc_weight / 2 * torch.stack(penalties).sum()
        return terms


def _iterate_retain_points(batches: Callable[[int], Batch]) -> Iterator[Noised]:
    """Iterate over the retain points of the bank, each once."""
    seen: set[str] = set()
    for step in count(1):
        x = batches(-step).retain
        new = {key: i for i, key in enumerate(x.keys) if key not in seen}
        if not new:
            return
        seen |= new.keys()
        yield from (x[[i]] for i in new.values())
