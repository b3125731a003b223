"""White-box prompt search: words that, put before a plain prompt, bring the concept back."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge import schedule
from expunge.attacks.attack import Attack, Attacked, Victim
from expunge.attacks.coordinate import CoordinateSearch, Losses, drawn
from expunge.attacks.finetune import rehearsed, rungs
from expunge.attacks.plain import plain
from expunge.data import RENDER_BATCH, pictured, seed_of
from expunge.denoiser.words import BLANK, Words, Written
from expunge.matching import squared_error
from expunge.types import Cond, Latents, Point
from expunge.weights import swapped


@dataclass(frozen=True)
class PromptSearch(Attack):
    """Search words for the front of each plain prompt, under which the victim predicts the noise on a picture of the concept.

        min_{w in vocabulary^k} mean_{(t, eps)} || g - eps_theta(x_t, t, [w; c_f]) ||^2,   x_t: a picture of c_f, noised

    with g the noise itself (`classifier-free`). Choose it to ask whether someone who has the weights finds any wording at all that
    brings the concept back. Each plain prompt has a prefix of its own, searched on the picture that the untouched model makes of it
    from the very noise that the reading starts from. No name of the concept enters a prefix: it is in the plain prompt already, and
    another of its names is another attack (`wording`).

    A larger strength is more of the same search, whose loss on its own points never rises.

    Source: arXiv 2310.11868 (UnlearnDiffAtk): the loss, the prefix, and the picture as target. There a distribution over the whole
    vocabulary is moved by projected gradients and words are drawn from it (in the released code at 50 timesteps in turn, 40 steps at
    each), until a classifier sees the concept in one of the pictures. Ours is the greedy search by coordinate gradients, that of
    arXiv 2307.15043 (GCG) without its random draws, because it does with few evaluations and keeps the best so far; all times at
    once, on fixed noise; whole words only, so that the prompt can be typed; one picture for each reading, and no classifier.
    """

    aim: Literal["classifier-free", "match"] = "classifier-free"
    """g: the noise on the picture, or what the untouched model predicts there under the plain prompt (`match`, P4D)."""
    tokens: Annotated[int, Ge(1)] = 3
    """k: words in the prefix. More can say more, and are harder to search."""
    iterations: Annotated[int, Ge(1)] = 20
    """Steps of the search; each changes one word of a prefix at most."""
    tries: Annotated[int, Ge(1)] = 8
    """Changes that a step evaluates of each prefix. More find more in a step that costs more."""
    points: Annotated[int, Ge(1)] = 2
    """Places on the noise path by which a prefix is valued, at times spread evenly. More are harder to fool, and dearer."""

    unit: ClassVar[str] = "iterations"
    threat: ClassVar[str] = "the weights, and a picture of the concept for each prompt"
    AT: ClassVar[tuple[int, ...]] = (0, 5, 10, 20, 40, 80, 160)
    """Iterations after which there is a reading, and after the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return rungs(self.AT, self.iterations)

    def cost(self, victim: Victim) -> tuple[int, int]:
        each = victim.pictures * self.points
        matched = each if self.aim == "match" else 0
        return rehearsed(victim, _pictures) + matched + self.iterations * each * (1 + self.tries), self.iterations * each

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        denoiser, words = victim.denoiser, Words(victim.denoiser)
        asked, seeds = victim.asked()
        written, among = words.write([f"{BLANK} {p}" for p in asked], self.tokens), words.candidates(victim.concept.known)
        losses = self._losses(victim, words, written)
        start = drawn(among, len(asked), self.tokens, seed_of("prefix", victim.seed))
        search = CoordinateSearch(words, among, losses, start, self.tries, max(1, RENDER_BATCH // self.points))
        yield plain(victim, 0.0, {})

        for done, strength in pairwise(self.strengths):
            with swapped(denoiser.net, victim.delta):
                for _ in victim.track(range(int(done), int(strength)), f"words that bring {victim.concept.target} back"):
                    search.step()
            with torch.no_grad():
                states = words.encode(written.filled(search.ids))
            keys = tuple(f"{words.read(found)} {p}" for found, p in zip(search.ids, asked, strict=True))
            yield Attacked(strength, Cond(states, keys), tuple(seeds), dict(victim.delta))

    def _losses(self, victim: Victim, words: Words, written: Written) -> Losses:
        """What is searched by: a function of the vectors of prefixes. Made under the untouched weights, called under the victim's."""
        denoiser = victim.denoiser
        x_t, t, goal = self._points(victim)

        def losses(vectors: Float[Tensor, "b blanks width"], rows: list[int]) -> Float[Tensor, " b"]:
            states = words.encode(written[rows], vectors).repeat_interleave(self.points, 0)
            at = [row * self.points + i for row in rows for i in range(self.points)]
            blank = ("",) * len(at)
            return squared_error(denoiser(Point(x_t[at], t[at], Cond(states, blank), blank)), goal[at]).view(-1, self.points).mean(1)

        return losses

    @torch.no_grad()
    def _points(self, victim: Victim) -> tuple[Latents, Tensor, Latents]:
        """x_t, t and g of `points` places for each picture, picture by picture."""
        denoiser, horizon = victim.denoiser, len(victim.denoiser.alphas_cumprod)
        clean = _pictures(victim).repeat_interleave(self.points, 0)
        # The middles of equal parts of the path.
        t = ((torch.arange(self.points) + 0.5) / self.points * horizon).long().repeat(victim.pictures)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed_of("prefix", "noise", victim.seed)))
        x_t = schedule.add_noise(clean, noise, t, denoiser.alphas_cumprod.cpu())
        x_t, t, noise = (part.to(denoiser.device) for part in (x_t, t, noise))
        if self.aim == "classifier-free":
            return x_t, t, noise
        cond = denoiser.encode([p for p in victim.asked()[0] for _ in range(self.points)])
        whole = Point(x_t, t, cond, ("",) * len(t))
        parts = [list(range(s, min(s + RENDER_BATCH, len(t)))) for s in range(0, len(t), RENDER_BATCH)]
        return x_t, t, torch.cat([denoiser(whole[part]) for part in parts])


@dataclass(frozen=True)
class P4D(PromptSearch):
    """Search words for the front of each plain prompt, under which the victim predicts what the untouched model does without them.

        min_{w in vocabulary^k} mean_{(t, eps)} || eps_*(x_t, t, c_f) - eps_theta(x_t, t, [w; c_f]) ||^2,   x_t: a picture of c_f, noised

    Choose it beside `prompt-search`: the same search with another aim, for an attacker who has the untouched model too. Its goal
    has no noise of its own to be fitted, so that the loss tells more at the same points; at 0 the victim draws as the untouched model.

    Source: arXiv 2309.06135 (Prompting4Debugging) for the loss. The paper has the k tokens in the place of the prompt, or among its
    words, and optimises vectors that are projected to the nearest tokens; the prefix is that of UnlearnDiffAtk, by whose released
    code the two are often compared. The search is ours: see `prompt-search`.
    """

    aim: Literal["classifier-free", "match"] = "match"
    """g: what the untouched model predicts under the plain prompt, or the noise on the picture (`classifier-free`)."""

    threat: ClassVar[str] = "the weights, the untouched model, and a picture of the concept for each prompt"


def _pictures(victim: Victim) -> Latents:
    """What the untouched model makes of each plain prompt, from the noise that readings start from."""
    prompts, seeds = victim.asked()
    return pictured(victim.denoiser, "forget", prompts, seeds, victim.store, victim.track)
