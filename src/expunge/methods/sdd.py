"""Safe self-distillation (SDD)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Point
from expunge.methods._matching import Matching
from expunge.methods.base import Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class SDD(Matching):
    """Distil the network's own unconditional prediction into the concept's prompt (SDD).

    On points of the base model's guided sampling of the concept, the network learns to predict under the concept's prompt what it predicts
    itself under the empty prompt. Choose it as a baseline: on the canvas it forgets least of all methods, and leaves styles almost
    unchanged (docs/results/index.md). The goal is the student's prediction on latents that show the concept, and changes with the student.
    Nothing returns the prediction under the empty prompt to that of the base model; only the average keeps the result near it. With the
    base model's goal instead, it is ESD without negative guidance.

        L = E_{z_t, t} || eps_theta(z_t, t, c) - sg[ eps_theta(z_t, t, "") ] ||^2,      result: the exponential moving average of theta

    Source: arXiv 2307.05977 for the loss, its stopped gradient and the average as the result; cross-attention is the released code's
    default. There the average, which learns, also samples the z_t, one partial trajectory for each step, with guidance 3. Ours are whole
    guided trajectories of the base model that are made once: the points do not follow the student, and all steps share them. Their guidance
    is that of any image of the model: 7.5, except for the canvas. The released code has a decay of 0.999 over 1500 steps, so a fifth of its
    result is still the initial weights; the decay here suits fewer steps. Whitened steps, the default, are ours.
    """

    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, pictures=48, ema=0.98, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"trajectory"})

    @property
    def reads_null(self) -> bool:
        return True

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        z = batch.trajectory
        with torch.no_grad():
            return z, models.student(z.given(batch.null))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        return {"forget": self.match(models, *self.goal(models, batch))}
