"""SDD: safe self-distillation diffusion."""

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
    """On the way to the concept, let the network predict under the concept's prompt what it predicts itself under the empty one.

        L = E_{z_t, t} || eps_theta(z_t, t, c) - sg[ eps_theta(z_t, t, "") ] ||^2,      result: the running mean of theta

    Choose it as a baseline: on the canvas it forgets least of all methods, and leaves styles nearly whole (docs/results). The goal is
    the student's own, on latents that show the concept, and moves along, so nothing pulls the empty prompt back where it was; the mean is
    what keeps the result near. With the untouched model's goal instead it is ESD without negative guidance.

    Source: arXiv 2307.05977 for the loss, its stopped gradient and the mean as the result; cross-attention is the released code's
    default. There the mean, which learns, samples the z_t too, one partial trajectory for each step. Ours come from whole guided
    trajectories of the untouched model, made once: the points do not follow the student, and all steps share them. Their guidance is that
    of any picture of the model, 7.5 but for the canvas, and the released code's 3. The released
    code keeps 0.999 over 1500 steps, so that a fifth of its result is still the start; the value here suits fewer steps.
    Whitened steps, the default, are ours.
    """

    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16, pictures=48, ema=0.98, whiten=1e-3)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"trajectory"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        z = batch.trajectory
        with torch.no_grad():
            return z, models.student(z.given(batch.null))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        return {"forget": self.match(models, *self.goal(models, batch))}
