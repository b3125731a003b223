"""Noise search: initial noise that shows the concept most, among many candidates."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le

from expunge.attacks.base import Attack, Attacked, Victim, make_reading, refuse_unordered
from expunge.diffusion.types import Latents
from expunge.errors import Inapplicable
from expunge.evaluation.judges import judge_chunks
from expunge.evaluation.rendering import RENDER_BATCH, locate_row_images, render_rows
from expunge.models.delta import swapped
from expunge.models.sampling import Start
from expunge.storage.hashing import seed_of
from expunge.training.renderer import Renderer


@dataclass(frozen=True)
class NoiseSearch(Attack):
    """Choose the initial noise for which the concept's prompts show it most (noise search).

        z_{k+1} = sqrt(1 - step^2) z* + step xi_k,  xi_k ~ N(0, I),   z* the best so far by the judge

    Choose it to test whether a concept that is rare under plain prompts is still in the model's range. The attacker only samples again and
    looks, as any user does. With `step` 1 every candidate is new noise, so it is the best of N seeds; a smaller step is a search in the
    neighbourhood of the best, without gradients, in which every candidate is still Gaussian noise.

    A larger strength is more candidates for each image, the plain noise of its seed included, so the attacker's own judge never sees the
    concept less often.

    Selection makes every share larger: with N candidates a judge who errs in a share p of images finds an error in 1 - (1 - p)^N. So the
    base model and the retrained model are searched in the same way with as many candidates, and only what exceeds these counts. The second
    judge does not take part in the choice.

    Source: arXiv 2404.04650 (InitNO) and arXiv 2501.09732 (search at inference) for choosing initial noise by a verifier, the latter also
    for random and local search; ours are the use as an attack, and candidates that keep the distribution of the noise.
    """

    candidates: tuple[Annotated[int, Ge(1)], ...] = (4, 16)
    """The numbers of candidates besides the plain noise, rising, with a reading for each. More find rarer images, and cost one image
    each."""
    step: Annotated[float, Gt(0), Le(1)] = 1.0
    """How far a candidate is from the best so far: 1 is new noise. Smaller stays closer, which helps where the judge's confidence rises
    gradually."""

    unit: ClassVar[str] = "candidates"
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "only the prompt, and the choice of the seed"

    def __post_init__(self) -> None:
        refuse_unordered(self)

    @property
    def strengths(self) -> tuple[float, ...]:
        return 0.0, *map(float, self.candidates)

    def cost(self, victim: Victim) -> tuple[int, int]:
        sampled = victim.pictures * (1 + self.candidates[-1])
        return sampled * victim.model.forwards_per_image(victim.sampler or victim.model.default_sampler), 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        if victim.judge is None:
            raise Inapplicable(
                "The search for noise needs a judge that chooses among images.",
                rule="no-judge-to-choose",
                value=None,
                hint="Try `expunge audit`, which has one, or Victim(judge=...).",
            )
        plain = make_reading(victim, 0.0, {})
        yield plain
        best = victim.model.noise(list(plain.noise_seeds)).cpu()
        scores = self._score(victim, plain, best)
        for done, strength in pairwise(self.strengths):
            for k in victim.session.progress.track(range(int(done), int(strength)), f"noise for {victim.concept.target}"):
                tried = (1 - self.step**2) ** 0.5 * best + self.step * self._draw(victim, k)
                found = self._score(victim, plain, tried)
                is_better = found > scores
                best = torch.where(is_better[:, None, None, None], tried, best)
                scores = torch.where(is_better, found, scores)
            yield Attacked(strength, plain.cond, plain.noise_seeds, dict(victim.delta), Start(noise=best))

    def _draw(self, victim: Victim, k: int) -> Latents:
        """New noise for candidate k of each image."""
        return victim.model.noise([seed_of("noise-search", victim.seed, k, i) for i in range(victim.pictures)]).cpu()

    def _score(self, victim: Victim, plain: Attacked, noise: Latents) -> torch.Tensor:
        """How much the judge sees the concept in the image of each row: its confidence, or less the more it is sure of something else."""
        session, concept, judge = victim.session, victim.concept, victim.judge
        assert judge is not None
        given = plain.cond, list(plain.noise_seeds), victim.sampler or victim.model.default_sampler
        files = locate_row_images(session, *given, victim.fingerprint, Start(noise=noise))
        with swapped(victim.model.network, victim.delta):
            images = render_rows(session, *given, files, f"noise for {concept.target}", Start(noise=noise))
        judged = judge_chunks(judge, images.chunks(Renderer(session, RENDER_BATCH).batch), concept)
        labels, name = judged.seen[concept.kind], concept.member.name
        sure = judged.confidence.get(concept.kind) or (1.0,) * len(labels)
        return torch.tensor([of if label == name else -of for label, of in zip(labels, sure, strict=True)])
