"""DDIM inversion: noise from which the attacked model itself leads back to an image of the concept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from expunge.attacks._pictures import ImageGuided
from expunge.attacks.base import Attacked, Victim, make_reading
from expunge.diffusion.types import Latents
from expunge.models.delta import swapped
from expunge.models.inversion import invert
from expunge.models.sampling import Sampler, Start


@dataclass(frozen=True)
class DDIMInversion(ImageGuided):
    """Sample from the noise that DDIM inversion finds for images of the concept, without text (TINA).

        x_{t+1} = signal_{t+1} x_0(x_t, t, "") + sigma_{t+1} eps_theta(x_t, t, ""),  from the image to the noise;  then sample from there

    Choose it to test whether the paths that lead to images of the concept still exist in the model when no word is read. The inversion is
    by the attacked model, under the empty prompt; the image is then sampled under `prompt`, by default the empty one as well. No image is
    given while sampling, only initial noise.

    A larger strength inverts each step more exactly. A network inverts much that it never learnt, as it would any image: compare with the
    retrained model, which is attacked in the same way with the same images.

    Source: arXiv 2010.02502 (DDIM) for the inversion; the attack without text is TINA's (CVPR 2026), inverted latents under prompts are
    arXiv 2512.22877 (M-ErasureBench). We have not read TINA's full text, whose optimisation against accumulated errors is here a fixed
    point of each step (arXiv 2309.04907).
    """

    calls: tuple[Annotated[int, Ge(1)], ...] = (1, 3)
    """Calls of the network for each step of the inversion, rising, with a reading for each. 1 is plain DDIM inversion. More invert more
    exactly and cost proportionally more."""

    unit: ClassVar[str] = "calls a step"
    threat: ClassVar[str] = "the weights, and images of the concept"

    @property
    def strengths(self) -> tuple[float, ...]:
        return 0.0, *map(float, self.calls)

    def cost(self, victim: Victim) -> tuple[int, int]:
        times = len({float(t) for t in victim.model.scheduler_for(_sampler_of(victim)).timesteps})
        return self.count_pictures(victim) + sum(self.calls) * times * victim.pictures, 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield make_reading(victim, 0.0, {})
        clean = self.make_pictures(victim)
        for calls in self.calls:
            yield self.make_reading(victim, float(calls), Start(noise=_invert(victim, clean, calls)))


def _invert(victim: Victim, clean: Latents, calls: int) -> Latents:
    with swapped(victim.model.network, victim.delta):
        return invert(victim.model, victim.model.null(len(clean)), clean, _sampler_of(victim), calls)


def _sampler_of(victim: Victim) -> Sampler:
    return victim.sampler or victim.model.default_sampler
