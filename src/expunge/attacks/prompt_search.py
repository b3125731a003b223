"""White-box prompt search: prefixes of plain prompts that bring the concept back."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import CoordinateSearch, sample_words
from expunge.attacks._training import count_forwards, list_strengths
from expunge.attacks.base import Attack, Attacked, Victim, make_reading
from expunge.concepts.concept import Concept
from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Cond, Latents, Point, Times
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.text_encoder import BLANK, Words
from expunge.storage.hashing import seed_of
from expunge.training.banks import RENDER_BATCH, pictured

VALIDATION_POINTS = 6
"""Points on the noise path of each image, apart from those of the search, at which a prefix must have a lower loss than no prefix."""


@dataclass(frozen=True)
class PromptSearch(Attack):
    """Search a prefix of each prompt by the denoising loss on images of the concept (UnlearnDiffAtk).

        min_{w in vocabulary^k} mean_{(t, eps)} || g - eps_theta(x_t, t, [w; c_f]) ||^2,   x_t: a noised image of c_f

    with g the noise itself (`classifier-free`). Choose it to test whether an attacker with the weights finds any wording that brings the
    concept back. Each plain prompt has its own prefix. Its target is the base model's image of the prompt, from the noise from which the
    reading starts. A prefix contains no name that the run was to forget, because the plain prompts contain these. It may contain names that
    the run was not given, unless `other_names` is False. A prefix is used only if its loss at validation points, which the search does not
    use, is lower than without a prefix: words that only fit the few points of the search override what the prompt says. So the attack is
    hardly ever worse than the plain prompts, and on the base model with `match` it equals them.

    A larger strength is more of the same search. Its loss on its own points never rises.

    Source: arXiv 2310.11868 (UnlearnDiffAtk) for the loss, the prefix, and the image as target. The paper updates a distribution over the
    whole vocabulary by projected gradients and samples words from it (in the released code at 50 timesteps in turn, with 40 steps each),
    until a classifier sees the concept in one of the images. Ours are the greedy search by coordinate gradients, which is that of arXiv
    2307.15043 (GCG) without its random sampling, because it needs few evaluations and keeps the best words; all timesteps at once, with
    fixed noise; whole words only, so that the prompt can be typed; one image for each reading; and validation points instead of a
    classifier.
    """

    aim: Literal["classifier-free", "match"] = "classifier-free"
    """The target g: the noise on the image, or the base model's prediction under the plain prompt (`match`, as P4D)."""
    tokens: Annotated[int, Ge(1)] = 3
    """The number k of words in the prefix. More can express more, and are harder to search."""
    iterations: Annotated[int, Ge(1)] = 20
    """Steps of the search. Each changes at most one word of each prefix. More lower the loss further."""
    tries: Annotated[int, Ge(1)] = 8
    """Changes of each prefix that a step evaluates. More find better words, and a step costs proportionally more."""
    points: Annotated[int, Ge(1)] = 2
    """Points on the noise path at which the search evaluates a prefix, at evenly spaced times. More reduce overfitting, and cost
    proportionally more."""
    other_names: bool = True
    """Whether the search may use names of the concept that the run was not given, as in the paper's whole vocabulary. False excludes them,
    so that the result says nothing of other names, which `wording` tests."""

    unit: ClassVar[str] = "iterations"
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the weights, and an image of the concept for each prompt"
    AT: ClassVar[tuple[int, ...]] = (0, 5, 10, 20, 40, 80, 160)
    """Iterations after which there is a reading, in addition to the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return list_strengths(self.AT, self.iterations)

    def cost(self, victim: Victim) -> tuple[int, int]:
        searched, validated = victim.pictures * self.points, victim.pictures * VALIDATION_POINTS
        matched = searched + validated if self.aim == "match" else 0
        read = validated * len(self.strengths)  # the plain prompts once, then each reading's prefixes
        return count_forwards(victim, _render_targets) + matched + read + self.iterations * searched * (
            1 + self.tries
        ), self.iterations * searched

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        model, words = victim.model, Words(victim.model)
        asked, seeds = victim.asked()
        written, among = words.write([f"{BLANK} {p}" for p in asked], self.tokens), words.candidates(self._list_excluded(victim.concept))
        searched, validation = (self._make_loss(victim, *part) for part in ((self.points, "search"), (VALIDATION_POINTS, "held out")))
        start = sample_words(among, len(asked), self.tokens, seed_of("prefix", victim.seed))

        def losses(vectors: Float[Tensor, "b blanks width"], rows: list[int]) -> Float[Tensor, " b"]:
            return searched.losses(model, words.condition(written[rows], ("",) * len(rows), vectors), rows)

        search = CoordinateSearch(words, among, losses, start, self.tries, max(1, RENDER_BATCH // self.points))
        plainly = model.encode(asked)
        yield make_reading(victim, 0.0, {})

        with swapped(model.network, victim.delta):
            without = validation.evaluate_all(model, plainly)
        for done, strength in pairwise(self.strengths):
            with swapped(model.network, victim.delta):
                for _ in victim.session.progress.track(range(int(done), int(strength)), f"words that bring {victim.concept.target} back"):
                    search.step()
                with torch.no_grad():
                    keys = tuple(f"{words.read(ids)} {p}" for ids, p in zip(search.ids, asked, strict=True))
                    prefixed = words.condition(written.filled(search.ids), keys)
                better = (validation.evaluate_all(model, prefixed) < without).tolist()
            cond = Cond.cat([(prefixed if is_better else plainly)[[i]] for i, is_better in enumerate(better)])
            yield Attacked(strength, cond, tuple(seeds), dict(victim.delta))

    def _list_excluded(self, concept: Concept) -> tuple[str, ...]:
        """The names that no prefix may contain."""
        return concept.names if self.other_names else concept.known

    @torch.no_grad()
    def _make_loss(self, victim: Victim, count: int, name: str) -> "PrefixLoss":
        """The loss at `count` points of each image, in the order of the images. The network must have the base model's weights."""
        model = victim.model
        clean = _render_targets(victim).repeat_interleave(count, 0)
        # The centres of equal parts of the path.
        t = model.path.times((torch.arange(count) + 0.5) / count).repeat(victim.pictures)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed_of("prefix", name, victim.seed)))
        x_t, goal = model.path.add_noise(clean, noise, t), model.path.goal(clean, noise, t)
        x_t, t, goal = (part.to(model.device) for part in (x_t, t, goal))
        if self.aim == "classifier-free":
            return PrefixLoss(count, x_t, t, goal)
        cond = model.encode([p for p in victim.asked()[0] for _ in range(count)])
        whole = Point(x_t, t, cond, ("",) * len(t))
        parts = [list(range(s, min(s + RENDER_BATCH, len(t)))) for s in range(0, len(t), RENDER_BATCH)]
        return PrefixLoss(count, x_t, t, torch.cat([model.predict(whole[part]) for part in parts]))


@dataclass(frozen=True)
class PrefixLoss:
    """The squared error of the prediction under a prompt, at fixed points on the noise path of the prompt's image."""

    each: int
    """Points of each image, which are consecutive."""
    x_t: Latents
    t: Times
    goal: Latents
    """What should be predicted at each point."""

    def losses(self, model: DiffusionModel, cond: Cond, rows: list[int]) -> Float[Tensor, " b"]:
        """The loss of encoded prompts at the points of the images `rows`."""
        at, blank = [row * self.each + i for row in rows for i in range(self.each)], ("",) * (self.each * len(rows))
        point = Point(self.x_t[at], self.t[at], cond[[i for i in range(len(rows)) for _ in range(self.each)]], blank)
        return squared_error(model.predict(point), self.goal[at]).view(-1, self.each).mean(1)

    @torch.no_grad()
    def evaluate_all(self, model: DiffusionModel, cond: Cond) -> Float[Tensor, " pictures"]:
        """The losses of one prompt for each image, in batches."""
        groups = torch.arange(len(cond)).split(max(1, RENDER_BATCH // self.each))
        return torch.cat([self.losses(model, cond[group.tolist()], group.tolist()) for group in groups])


@dataclass(frozen=True)
class P4D(PromptSearch):
    """Search a prefix with which the victim predicts what the base model does (P4D).

        min_{w in vocabulary^k} mean_{(t, eps)} || eps_*(x_t, t, c_f) - eps_theta(x_t, t, [w; c_f]) ||^2,   x_t: a noised image of c_f

    Choose it with `prompt-search`: it is the same search with another target, for an attacker who also has the base model. The target
    contains no noise that words could fit, so the loss is more informative at the same points. Where it is 0, the victim predicts what the
    base model predicts.

    A larger strength is more of the same search. Its loss on its own points never rises.

    Source: arXiv 2309.06135 (Prompting4Debugging) for the loss. The paper puts the k tokens in place of the prompt, or among its words, and
    optimises vectors that are projected to the nearest tokens. The prefix is that of UnlearnDiffAtk, whose released code is often used to
    compare the two. The search is ours: see `prompt-search`.
    """

    aim: Literal["classifier-free", "match"] = "match"
    """The target g: the base model's prediction under the plain prompt, or the noise on the image (`classifier-free`)."""

    threat: ClassVar[str] = "the weights, the base model, and an image of the concept for each prompt"


def _render_targets(victim: Victim) -> Latents:
    """The base model's image of each plain prompt as latents, from the noise from which readings start."""
    prompts, seeds = victim.asked()
    return pictured(victim.session, "forget", prompts, seeds)
