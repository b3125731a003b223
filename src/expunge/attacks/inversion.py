"""Concept inversion: learning the embedding of a new word for the concept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import differentiate
from expunge.attacks._training import count_forwards, list_strengths
from expunge.attacks.base import Attack, Attacked, Victim, make_reading
from expunge.concepts.concept import Concept
from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Noised, Point
from expunge.methods.base import Training
from expunge.models.delta import swapped
from expunge.models.text_encoder import BLANK, Words
from expunge.storage.hashing import seed_of
from expunge.storage.tensors import content
from expunge.training.banks import Bank, forget_bank
from expunge.training.batches import picks

POINTS = 512
"""Points on the noise path from which batches are sampled, about as many for each `noisy_from`."""


@dataclass(frozen=True)
class Inversion(Attack):
    """Learn the embedding of a new word from images of the concept (concept inversion).

        v* = argmin_v E_{(x_0, c_f), t, eps} || eps - eps_theta(x_t, t, c_f[name -> v]) ||^2

    The weights of the unlearned model do not change, and the word takes the place of the name in the concept's prompts.

    Choose it to test whether the concept is still in the weights and only its name was disconnected, as by methods that change how the
    network reads a name. Only the vectors of `tokens` tokens at the input of the text encoder are learned, so the attack cannot teach the
    network what it cannot generate. A vector is not a word that can be typed: the attacker must have access to the text encoder's input.

    The search can fail although such a word exists. An image with little noise shows the concept by itself, so the loss there hardly
    depends on the word, and gives the search no direction. With `noisy_from` 0.5 the word is learned at noisy times alone. Neither setting
    finds more on every model (docs/results/flagship.md), so use both.

    A larger strength is more of the same training. Batches depend only on the seed, so a run of fewer steps is the beginning of a longer
    run.

    Source: arXiv 2308.01508 (circumventing concept erasure), with the training of arXiv 2208.01618 (textual inversion), equation 2. These
    start from a word that the user gives, and use neutral sentences around the new word, and real images. Ours are the start, which is the
    mean of the other members of the concept's kind, so that it contains no name of the concept; the concept's own sentences with their
    partners; images by the base model; several tokens; and `noisy_from`.
    """

    tokens: Annotated[int, Ge(1)] = 1
    """New tokens, which together replace the name. More can express more, and need more steps."""
    shown: Annotated[int, Ge(1)] = 16
    """Images of the concept by the base model, spread over its prompts. More separate the concept better from its partners."""
    lr: Annotated[float, Gt(0)] = 5e-3
    """Adam's learning rate, constant. Larger learns faster, and may overshoot."""
    steps: Annotated[int, Ge(1)] = 200
    """Optimizer steps. With more, the word describes the images better, including the partners in them."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More reduces the variance of each step and costs proportionally more."""
    noisy_from: Annotated[float, Gt(0), Le(0.9)] | None = None
    """The share of the noise path at which the points begin that the word is trained on: 0.5 is its noisier half, None the whole path. The
    larger it is, the more the prediction depends on the word, and the less the word learns about details. The bank of points grows with
    1 / (1 - noisy_from), hence the limit."""
    repeat: Annotated[int, Ge(0)] | None = None
    """Another start, other images and another order of batches for each number: a restart. None starts at the mean of the other members.
    Several entries of a budget that differ in it are one attacker with restarts, whose best counts."""

    teaches: ClassVar[bool] = True
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the weights, a few images of the concept, and the text encoder's input"
    AT: ClassVar[tuple[int, ...]] = (0, 50, 100, 200, 500, 1000, 2000)
    """Steps after which there is a reading, in addition to the last step."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return list_strengths(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained = self.steps * self.batch_size
        return trained + count_forwards(victim, self._make_bank), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        model, words, templates = victim.model, Words(victim.model), _make_templates(victim.concept)
        written, row_of = words.write(list(templates.values()), self.tokens), {prompt: i for i, prompt in enumerate(templates)}
        bank = self._make_bank(victim)
        points = bank.points
        assert isinstance(points, Noised)
        yield make_reading(victim, 0.0, {})

        start = model.path.times(torch.tensor([self.noisy_from or 0.0])).item()
        among = [i for i, t in enumerate(points.t.tolist()) if t >= start]
        seed = victim.seed_for(self.repeat)
        vectors = self._start(words, victim.concept, seed).requires_grad_()
        optimizer = torch.optim.Adam([vectors], lr=self.lr)
        for done, strength in pairwise(self.strengths):
            with swapped(model.network, victim.delta):
                for step in victim.session.progress.track(range(int(done), int(strength)), f"a new word for {victim.concept.target}"):
                    at = [among[i] for i in picks(seed_of("inversion", seed), step, len(among), self.batch_size)]
                    rows = written[[row_of[bank.prompts[i].prompt] for i in at]]
                    blank = ("",) * len(at)
                    cond = words.condition(rows, blank, vectors.expand(len(at), -1, -1))
                    x_t, t, goal = (part[at].to(model.device) for part in (points.x_t, points.t, points.goal))
                    predicted = model.predict(Point(x_t, t, cond, blank))
                    vectors.grad = differentiate(squared_error(predicted, goal).mean(), vectors)
                    optimizer.step()

            prompts, seeds = victim.asked()
            name = f"<{content({'vectors': vectors.detach().cpu()})[:8]}>"  # other vectors have another name
            with torch.no_grad():
                keys = tuple(templates[p].replace(BLANK, name) for p in prompts)
                cond = words.condition(written[[row_of[p] for p in prompts]], keys, vectors.expand(len(prompts), -1, -1))
            yield Attacked(strength, cond, tuple(seeds), dict(victim.delta))

    def _make_bank(self, victim: Victim) -> Bank:
        count = math.ceil(POINTS / (1 - (self.noisy_from or 0.0)))  # about POINTS of them are noisy enough
        concept, banked = replace(victim.concept, synonyms=()), Training(pictures=self.shown, points=max(count, self.shown))
        # Seeds of its own, so that no image is one that a method was trained on.
        return forget_bank(victim.session, concept, banked, seed_of("inversion", victim.seed_for(self.repeat)))

    def _start(self, words: Words, concept: Concept, seed: int) -> Float[Tensor, "tokens width"]:
        """The first vectors. Those of a restart are moved at random, by as much as the vectors of words differ from their mean."""
        start = compute_start(words, concept).repeat(self.tokens, 1)
        if self.repeat is None:
            return start
        generator = torch.Generator().manual_seed(seed_of("inversion", seed, "start"))
        spread = _list_others(words, concept).std(0, unbiased=False)
        return start + spread * torch.randn(start.shape, generator=generator).to(start)


def _make_templates(concept: Concept) -> dict[str, str]:
    """By prompt with the main name of the concept, the same prompt with a blank instead of the name."""
    named, blank = (replace(concept, target=name, synonyms=()).forget() for name in (concept.target, BLANK))
    return {p.prompt: b.prompt for p, b in zip(named, blank, strict=True)}


def compute_start(words: Words, concept: Concept) -> Float[Tensor, "1 width"]:
    """The mean of the vectors of the names of the concept's kind without the concept, each name with equal weight.

    If the kind has no other member, the mean over the concept's partners.
    """
    return _list_others(words, concept).mean(0, keepdim=True)


def _list_others(words: Words, concept: Concept) -> Float[Tensor, "others width"]:
    """The mean vector of each name that `compute_start` takes."""
    kind = concept.vocabulary.kinds[concept.kind]
    others = [m.name for m in kind.members if m != concept.member] or [m.name for m in concept.partners]
    ids = [words.tokenizer(name, add_special_tokens=False).input_ids for name in others]
    return torch.stack([words.vectors(torch.tensor(i, device=words.device)).mean(0) for i in ids])
