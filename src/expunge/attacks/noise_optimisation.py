"""Noise optimisation: initial noise that follows a gradient towards images of the concept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim, make_reading, refuse_unordered
from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Cond, Latents, Point, together
from expunge.errors import NonFiniteLoss
from expunge.models.base import DiffusionModel
from expunge.models.delta import fitted
from expunge.models.sampling import Sampler, Start
from expunge.storage.hashing import seed_of


@dataclass(frozen=True)
class NoiseOptimisation(Attack):
    """Optimise the initial noise by gradients until the base model sees the concept in the image (noise optimisation).

        i(x_0; c_f) = E_{t, eps} [ || eps - eps_*(x_t, t, c) ||^2 - || eps - eps_*(x_t, t, c_f) ||^2 ],   x_t = signal_t x_0 + sigma_t eps
        z <- || z || u / || u ||,   u = z + step || z || g / || g ||,   g = grad_z i(x_0(z); c_f), orthogonal to z

    with x_0(z) the attacked model's image from the noise z under the concept's prompt c_f, and c this prompt without the concept.

    Choose it to test whether a concept that no plain noise shows is still in the model's range. It goes further than `noise-search`, which
    only compares images, and needs the attacked model's gradients and the base model's opinion of an image.

    A larger strength is more steps from the same noise. The length of the noise is kept, because Gaussian noise of that many dimensions has
    nearly always that length; its direction may become one that random noise does not have, and a network gives back much that it never
    learnt if its noise is chosen for that. So read each strength against the retrained model, which is attacked in the same way.

    Source: arXiv 2404.04650 (InitNO) and arXiv 2406.04312 (ReNO) for gradients of initial noise through the sampler; arXiv 2310.07972 for
    i, the pointwise information between an image and its prompt. Ours are i as the goal, steps of fixed length on the sphere, and the
    use as an attack.
    """

    steps: tuple[Annotated[int, Ge(1)], ...] = (10, 30)
    """The numbers of gradient steps, rising, with a reading for each. More find what is further from the plain noise, and cost
    proportionally more."""
    step: Annotated[float, Gt(0)] = 0.1
    """The length of a step, as a share of the length of the noise. Larger moves faster and less exactly; ten steps of 0.1 turn the noise by
    57 degrees at most."""
    sampler_steps: Annotated[int, Ge(1)] = 4
    """Denoising steps between noise and image during the search; the readings have the victim's own. More are nearer to the images of the
    readings, and cost more time and memory, since gradients go through all of them."""
    points: Annotated[int, Ge(1)] = 2
    """Points on the noise path for each image and step at which the base model is asked. More reduce the variance of the gradient."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Images that are optimised at once. Larger needs more memory and changes no result."""

    unit: ClassVar[str] = "steps"
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the weights, the base model, and the choice of the noise"

    def __post_init__(self) -> None:
        refuse_unordered(self)

    @property
    def strengths(self) -> tuple[float, ...]:
        return 0.0, *map(float, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        each = victim.model.forwards_per_image(self._sampler(victim)) + 2 * self.points
        return (passes := self.steps[-1] * victim.pictures * each), passes

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        plain = make_reading(victim, 0.0, {})
        yield plain
        contexts = {p.prompt: p.context for p in victim.concept.forget()}
        context = victim.model.encode([contexts[prompt] for prompt in plain.cond.keys])
        z, rows = victim.model.noise(list(plain.noise_seeds)), range(victim.pictures)
        for done, strength in pairwise(self.strengths):
            for k in victim.session.progress.track(range(int(done), int(strength)), f"noise for {victim.concept.target}"):
                for start in rows[:: self.batch_size]:
                    at = list(rows[start : start + self.batch_size])
                    seeds = [plain.noise_seeds[i] for i in at]
                    z[at] = move(z[at], self._differentiate(victim, z[at], (plain.cond[at], context[at]), seeds, k), self.step)
            yield Attacked(strength, plain.cond, plain.noise_seeds, dict(victim.delta), Start(noise=z.cpu().clone()))

    def _sampler(self, victim: Victim) -> Sampler:
        return Sampler(self.sampler_steps, (victim.sampler or victim.model.default_sampler).guidance_scale)

    def _differentiate(self, victim: Victim, z: Latents, conds: tuple[Cond, Cond], seeds: list[int], k: int) -> Latents:
        """The gradient of i with respect to noise in step `k`.

        Raises:
            NonFiniteLoss: The gradient is not finite.
        """
        model, noise = victim.model, z.clone().requires_grad_()
        with torch.enable_grad():
            *_, clean = model.walk(conds[0], seeds, self._sampler(victim), Start(noise=noise), fitted(model.network, victim.delta))
            assert isinstance(clean, Tensor)
            total = torch.zeros((), device=clean.device)
            for point in range(self.points):
                drawn = [seed_of("noise-optimisation", victim.seed, k, point, seed) for seed in seeds]
                total = total + information(model, clean.float(), conds, drawn).sum()
        [gradient] = torch.autograd.grad(total, [noise])
        if not torch.isfinite(gradient).all():
            raise NonFiniteLoss(
                f"The gradient with respect to the noise is not finite in step {k + 1}.",
                rule="non-finite-gradient",
                value=total.item(),
                hint="Try fewer --sampler-steps, or --dtype fp32.",
            )
        return gradient


def information(model: DiffusionModel, clean: Latents, conds: tuple[Cond, Cond], seeds: Sequence[int]) -> Float[Tensor, " b"]:
    """What the base model's prediction under the first condition explains of each image beyond that under the second, at one point on the
    noise path for each: its time and its noise are those of the image's seed. In what the network predicts."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    t = model.path.times(torch.cat([torch.rand(1, generator=g) for g in generators])).to(clean.device)
    noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators]).to(clean)
    keys, goal = ("",) * len(clean), model.path.goal(clean, noise, t)
    point = Point(model.path.add_noise(clean, noise, t), t, conds[0], keys)
    with_it, without = (squared_error(prediction, goal) for prediction in together(model.predict, *map(point.given, conds)))
    return without - with_it


def move(z: Latents, gradient: Latents, step: float) -> Latents:
    """Noise that is moved along the part of a gradient that is orthogonal to it, by a share of its length, and has its length again. Where
    the gradient vanishes, the noise remains."""
    flat, g = z.flatten(1), gradient.flatten(1)
    length = flat.norm(dim=1, keepdim=True)
    g = g - (g * flat).sum(1, keepdim=True) / length**2 * flat
    moved = flat + step * length * torch.nn.functional.normalize(g)
    return (moved * length / moved.norm(dim=1, keepdim=True)).view_as(z)
