"""Inpainting: the model completes a part of an image of the concept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Lt

from expunge.attacks._pictures import ImageGuided
from expunge.attacks.base import Attacked, Victim, make_reading
from expunge.models.sampling import Start


@dataclass(frozen=True)
class Inpainting(ImageGuided):
    """Complete the hidden part of an image of the concept (inpainting).

        before each step  x_t <- M (signal_t x_0 + sigma_t eps) + (1 - M) x_t,   M the columns that are shown

    Choose it beside `img2img`: here the model decides every scale of the hidden part, and only what it is shown is given. The shown part is
    the left one. The judge sees the whole image, and so may recognise the concept by what was given: read each strength against the
    retrained model, which is given the same.

    A larger strength shows more columns.

    Source: arXiv 2201.09865 (RePaint) without its resampling for the procedure; arXiv 2512.22877 (M-ErasureBench) for images as an attack
    on erased models. Ours are images by the base model, the three prompts and the comparison strength by strength.
    """

    shares: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.25, 0.5)
    """The shares of the image that are shown, rising, with a reading for each; at least one column of the latents is shown and one hidden.
    Larger gives more of the image."""

    unit: ClassVar[str] = "share shown"
    threat: ClassVar[str] = "the model as an image editor, and parts of images of the concept"

    @property
    def strengths(self) -> tuple[float, ...]:
        return 0.0, *self.shares

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield make_reading(victim, 0.0, {})
        clean = self.make_pictures(victim)
        count, _, height, width = clean.shape
        for share in self.shares:
            columns = min(max(1, round(share * width)), width - 1)
            shown = (torch.arange(width, device=clean.device) < columns).expand(count, 1, height, width)
            yield self.make_reading(victim, share, Start(clean=clean, shown=shown))
