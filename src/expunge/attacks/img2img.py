"""Image to image: the model continues from a noised image of the concept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt

from expunge.attacks._pictures import ImageGuided
from expunge.attacks.base import Attacked, Victim, make_reading
from expunge.models.sampling import Start


@dataclass(frozen=True)
class Img2Img(ImageGuided):
    """Continue sampling from a noised image of the concept (img2img).

        x_t = signal_t x_0 + sigma_t eps,  x_0 an image of the concept;  the sampler goes on from t under the prompt

    Choose it to test whether a model that no longer draws the concept still completes one that it is shown, as users of image editors do.
    Nothing is trained and no word is needed. With `prompt` null no name takes part, so what was removed from the reading of a name alone is
    still there.

    A larger strength leaves more of the image: at 0.2 the sampler skips the first fifth of its steps, and at 0.8 little but detail is
    left to decide. Then any model gives the image back, also one that never learnt the concept. So read each strength against the retrained
    model; without it a share says nothing.

    Source: arXiv 2108.01073 (SDEdit) for the procedure; arXiv 2512.22877 (M-ErasureBench) for images as an attack on erased models. Ours
    are images by the base model, the three prompts and the comparison strength by strength.
    """

    shares: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.2, 0.4, 0.6)
    """The shares of the sampler's steps that the image takes the place of, rising, with a reading for each. Larger gives more of the
    image."""

    unit: ClassVar[str] = "share of the steps"
    threat: ClassVar[str] = "the model as an image editor, and images of the concept"

    @property
    def strengths(self) -> tuple[float, ...]:
        return 0.0, *self.shares

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield make_reading(victim, 0.0, {})
        clean = self.make_pictures(victim)
        for share in self.shares:
            yield self.make_reading(victim, share, Start(clean=clean, skipped=share))
