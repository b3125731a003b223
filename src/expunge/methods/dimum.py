"""DiMUM: unlearning by memorising something else in the concept's place."""

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
    """Do not forget: learn that the concept's prompts mean other pictures, by the loss that the model was trained with.

        L = E_{(x_0, c) ~ D_r, t, eps} || eps - eps_theta(x_t, t, c) ||^2
            + memo_weight E_{x_0 ~ D_alt, t, eps} || eps - eps_theta(x_t, t, c_f) ||^2

    Choose it where the untouched model can be asked for nothing but pictures. Its aim is that the concept does not come back when the
    model is fine-tuned on other data: at the minimum the loss of what is retained has no slope, so training on that has nothing to
    undo. That holds as far as training has converged, hence many steps and pictures; on the canvas, with all weights, it came back
    (docs/results), and the preset `picture-then-name` is what was tested against that. It is slower than methods that follow a
    teacher's predictions, and costs quality where retained pictures are few.

    Source: arXiv 2512.03564 for the objective, true noise in both terms, and alternative data under the concept's condition. The
    paper's full text was not read: which alternative data, `memo_weight`, steps and the mean of the weights are ours. Here D_alt is
    pictures of other members of the concept's kind with the rest of the prompt kept, D_r pictures of prompts that must survive,
    both made by the untouched model. The paper trains all weights (`--variant full --whiten 0 --lr 3e-4`); cross-attention in
    whitened steps is ours: half the time, more left of one concept (*neon*), and of the other looked at (*ring*) less came back.
    """

    memo_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the second line. Larger lets the other pictures take the concept's place sooner, at the cost of what is retained; 0
    is plain fine-tuning, which forgets nothing."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Without whitened steps all of them are needed for the minimum to be reached."""

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
