"""White-box prompt search: words that, put before a plain prompt, bring the concept back."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import CoordinateSearch, drawn
from expunge.attacks._training import rehearsed, rungs
from expunge.attacks.base import Attack, Attacked, Victim, plain
from expunge.concepts.concept import Concept
from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Cond, Latents, Point, Times
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.text_encoder import BLANK, Words
from expunge.storage.hashing import seed_of
from expunge.training.banks import RENDER_BATCH, pictured

HELD = 6
"""Places for each picture at which a prefix has to do better than none, at times of their own."""


@dataclass(frozen=True)
class PromptSearch(Attack):
    """Search words for the front of each plain prompt, under which the victim predicts the noise on a picture of the concept.

        min_{w in vocabulary^k} mean_{(t, eps)} || g - eps_theta(x_t, t, [w; c_f]) ||^2,   x_t: a picture of c_f, noised

    with g the noise itself (`classifier-free`). Choose it to ask whether someone who has the weights finds any wording at all that
    brings the concept back. Each plain prompt has a prefix of its own, searched on the picture that the untouched model makes of it
    from the very noise that the reading starts from. No name that was to be forgotten enters a prefix, for it is in the plain prompts
    already; a name that the run was not told of may, unless `other_names` bars it. A prefix is used only where, at places that the
    search has not seen, its loss is lower than without one: words that merely fit those few places drown what the prompt says. So the
    attack never does much worse than the plain prompts, and on the untouched model under `match` it is them.

    A larger strength is more of the same search, whose loss on its own points never rises.

    Source: arXiv 2310.11868 (UnlearnDiffAtk): the loss, the prefix, and the picture as target. There a distribution over the whole
    vocabulary is moved by projected gradients and words are drawn from it (in the released code at 50 timesteps in turn, 40 steps at
    each), until a classifier sees the concept in one of the pictures. Ours is the greedy search by coordinate gradients, that of
    arXiv 2307.15043 (GCG) without its random draws, because it does with few evaluations and keeps the best so far; all times at
    once, on fixed noise; whole words only, so that the prompt can be typed; one picture for each reading, and no classifier but the
    loss at places held out.
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
    other_names: bool = True
    """Whether names of the concept that the run was not told of are among the words, as in the whole vocabulary of the paper. False
    leaves them to `wording`, and asks of all other words alone."""

    unit: ClassVar[str] = "iterations"
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the weights, and a picture of the concept for each prompt"
    AT: ClassVar[tuple[int, ...]] = (0, 5, 10, 20, 40, 80, 160)
    """Iterations after which there is a reading, and after the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return rungs(self.AT, self.iterations)

    def cost(self, victim: Victim) -> tuple[int, int]:
        searched, held = victim.pictures * self.points, victim.pictures * HELD
        matched = searched + held if self.aim == "match" else 0
        read = held * len(self.strengths)  # the plain prompts once, then each reading's prefixes
        return rehearsed(victim, _pictures) + matched + read + self.iterations * searched * (1 + self.tries), self.iterations * searched

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        model, words = victim.model, Words(victim.model)
        asked, seeds = victim.asked()
        written, among = words.write([f"{BLANK} {p}" for p in asked], self.tokens), words.candidates(self._barred(victim.concept))
        searched, held = (self._aimed(victim, *part) for part in ((self.points, "search"), (HELD, "held out")))
        start = drawn(among, len(asked), self.tokens, seed_of("prefix", victim.seed))

        def losses(vectors: Float[Tensor, "b blanks width"], rows: list[int]) -> Float[Tensor, " b"]:
            return searched.losses(model, words.condition(written[rows], ("",) * len(rows), vectors), rows)

        search = CoordinateSearch(words, among, losses, start, self.tries, max(1, RENDER_BATCH // self.points))
        plainly = model.encode(asked)
        yield plain(victim, 0.0, {})

        with swapped(model.network, victim.delta):
            without = held.of_all(model, plainly)
        for done, strength in pairwise(self.strengths):
            with swapped(model.network, victim.delta):
                for _ in victim.session.progress.track(range(int(done), int(strength)), f"words that bring {victim.concept.target} back"):
                    search.step()
                with torch.no_grad():
                    keys = tuple(f"{words.read(found)} {p}" for found, p in zip(search.ids, asked, strict=True))
                    prefixed = words.condition(written.filled(search.ids), keys)
                better = (held.of_all(model, prefixed) < without).tolist()
            cond = Cond.cat([(prefixed if is_better else plainly)[[i]] for i, is_better in enumerate(better)])
            yield Attacked(strength, cond, tuple(seeds), dict(victim.delta))

    def _barred(self, concept: Concept) -> tuple[str, ...]:
        return concept.names if self.other_names else concept.known

    @torch.no_grad()
    def _aimed(self, victim: Victim, count: int, name: str) -> "Aimed":
        """Pictures noised at `count` places for each picture, picture by picture. Made under the untouched weights."""
        model = victim.model
        clean = _pictures(victim).repeat_interleave(count, 0)
        # The middles of equal parts of the path.
        t = model.path.times((torch.arange(count) + 0.5) / count).repeat(victim.pictures)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed_of("prefix", name, victim.seed)))
        x_t, goal = model.path.add_noise(clean, noise, t), model.path.goal(clean, noise, t)
        x_t, t, goal = (part.to(model.device) for part in (x_t, t, goal))
        if self.aim == "classifier-free":
            return Aimed(count, x_t, t, goal)
        cond = model.encode([p for p in victim.asked()[0] for _ in range(count)])
        whole = Point(x_t, t, cond, ("",) * len(t))
        parts = [list(range(s, min(s + RENDER_BATCH, len(t)))) for s in range(0, len(t), RENDER_BATCH)]
        return Aimed(count, x_t, t, torch.cat([model.predict(whole[part]) for part in parts]))


@dataclass(frozen=True)
class Aimed:
    """What prompts are valued by: places on the noise path of each prompt's picture, and what should be predicted there."""

    each: int
    """Places for each picture, which lie side by side."""
    x_t: Latents
    t: Times
    goal: Latents

    def losses(self, model: DiffusionModel, cond: Cond, rows: list[int]) -> Float[Tensor, " b"]:
        """The loss of encoded prompts, at the places of the pictures `rows`."""
        at, blank = [row * self.each + i for row in rows for i in range(self.each)], ("",) * (self.each * len(rows))
        point = Point(self.x_t[at], self.t[at], cond[[i for i in range(len(rows)) for _ in range(self.each)]], blank)
        return squared_error(model.predict(point), self.goal[at]).view(-1, self.each).mean(1)

    @torch.no_grad()
    def of_all(self, model: DiffusionModel, cond: Cond) -> Float[Tensor, " pictures"]:
        """The loss of an encoded prompt for each picture."""
        groups = torch.arange(len(cond)).split(max(1, RENDER_BATCH // self.each))
        return torch.cat([self.losses(model, cond[group.tolist()], group.tolist()) for group in groups])


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
    return pictured(victim.session, "forget", prompts, seeds)
