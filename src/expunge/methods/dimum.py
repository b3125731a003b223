"""DiMUM: unlearning by memorising alternative images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.losses import denoising_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Noised
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class DiMUM(Objective):
    """Train the concept's prompts on alternative images, with the ordinary denoising loss (DiMUM).

    The network learns that the concept's prompts mean other images, and continues to train on the retain set. Choose it where predictions
    of the base model are not available and images are. Its aim is that the concept does not return when the model is fine-tuned on other
    data: at the minimum the retain loss has zero gradient, so fine-tuning on retained data has nothing to undo. This holds only as far as
    training has converged, so many steps and images are needed. On the canvas, with all weights, the concept returned
    (docs/results/attacks.md); the preset `picture-then-name` was tested against that. DiMUM is slower than methods with a teacher's
    predictions, and loses quality where the retain set is small.

        L = E_{(x_0, c) ~ D_r, t, eps} || eps - eps_theta(x_t, t, c) ||^2
            + memo_weight E_{x_0 ~ D_alt, t, eps} || eps - eps_theta(x_t, t, c_f) ||^2

    Source: arXiv 2512.03564 for the objective, the true noise in both terms, and alternative data under the concept's condition. The full
    text was not available to us, so the choice of alternative data, `memo_weight`, the number of steps and the average of the weights are
    ours. Here D_alt is images of other members of the concept's kind with the rest of the prompt unchanged, and D_r is images of the retain
    prompts. Both are made by the base model. The paper trains all weights (`--variant full --whiten 0 --lr 3e-4`). Ours is cross-attention
    with whitened steps: it takes half the time, left more of one concept (*neon*), and less of the other that was tested (*ring*) returned.
    """

    memo_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second term. Larger replaces the concept sooner and damages the retain set more; 0 is plain fine-tuning, which forgets
    nothing."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Without whitened steps, all of them are needed to reach the minimum."""

    training: ClassVar[Training] = Training(
        steps=300, lr=6e-4, batch_size=16, pictures=128, retain_pictures=256, points=2048, ema=0.98, whiten=1e-3, checkpoint_every=100
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"retain", "surrogate"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, kept = Noised.cat([batch.retain, batch.surrogate]), len(batch.retain)
        errors = denoising_error(models, x)
        return {"retain": errors[:kept].mean(), "memo": self.memo_weight * errors[kept:].mean()}
