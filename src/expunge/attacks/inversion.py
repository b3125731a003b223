"""Concept inversion: a new word for the concept, learned from pictures of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import slope
from expunge.attacks._training import rehearsed, rungs
from expunge.attacks.base import Attack, Attacked, Victim, plain
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
"""Places on the noise path that batches are drawn from."""


@dataclass(frozen=True)
class Inversion(Attack):
    """Learn a new word from a few pictures of the concept, with the unlearned model left as it is, and ask for pictures by that word.

        v* = argmin_v E_{(x_0, c_f), t, eps} || eps - eps_theta(x_t, t, c_f[name -> v]) ||^2

    Choose it to ask whether the concept is still in the weights and only its name was cut off: what methods that change how the
    network reads a name leave behind, this finds. Only the vectors of `tokens` tokens at the text encoder's entrance are learned, so
    what the network cannot draw it cannot be taught; but a vector is no word that one can type: the attacker feeds the text encoder.

    A larger strength is more of the same training. Its batches come from the seed alone, so fewer steps are the beginning of more.

    Source: arXiv 2308.01508 (circumventing concept erasure), with the learning of arXiv 2208.01618 (textual inversion), equation 2.
    They begin from a word that a person gives, and ask with neutral sentences around the new word, by real pictures. Ours are the
    beginning, the mean of the other members of the concept's kind, so that no word of its own is given away; the concept's own
    sentences with partners in them; pictures by the untouched model; and several tokens.
    """

    tokens: Annotated[int, Ge(1)] = 1
    """New tokens that stand for the concept together. More say more, and need more steps."""
    shown: Annotated[int, Ge(1)] = 16
    """Pictures of the concept, by the untouched model, spread over its prompts. More tell the concept from what stands beside it."""
    lr: Annotated[float, Gt(0)] = 5e-3
    """Adam's step size, the same to the end. Larger learns sooner, and may overshoot."""
    steps: Annotated[int, Ge(1)] = 200
    """Optimizer steps. With more, the word says better what was shown, and more of what stood beside it."""
    batch_size: Annotated[int, Ge(1)] = 8
    """Points on the noise path in each step. More makes each step surer and dearer."""

    teaches: ClassVar[bool] = True
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the weights, a few pictures of the concept, and the text encoder's entrance"
    AT: ClassVar[tuple[int, ...]] = (0, 50, 100, 200, 500, 1000, 2000)
    """Steps after which there is a reading, and after the last."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return rungs(self.AT, self.steps)

    def cost(self, victim: Victim) -> tuple[int, int]:
        trained = self.steps * self.batch_size
        return trained + rehearsed(victim, self._shown), trained

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        model, words, forms = victim.model, Words(victim.model), _forms(victim.concept)
        written, place = words.write(list(forms.values()), self.tokens), {prompt: i for i, prompt in enumerate(forms)}
        bank = self._shown(victim)
        points = bank.points
        assert isinstance(points, Noised)
        yield plain(victim, 0.0, {})

        vectors = beginning(words, victim.concept).repeat(self.tokens, 1).requires_grad_()
        optimizer = torch.optim.Adam([vectors], lr=self.lr)
        for done, strength in pairwise(self.strengths):
            with swapped(model.network, victim.delta):
                for step in victim.session.progress.track(range(int(done), int(strength)), f"a new word for {victim.concept.target}"):
                    at = picks(seed_of("inversion", victim.seed), step, len(bank.points), self.batch_size)
                    rows = written[[place[bank.prompts[i].prompt] for i in at]]
                    blank = ("",) * len(at)
                    cond = words.condition(rows, blank, vectors.expand(len(at), -1, -1))
                    x_t, t, goal = (part[at].to(model.device) for part in (points.x_t, points.t, points.goal))
                    predicted = model.predict(Point(x_t, t, cond, blank))
                    vectors.grad = slope(squared_error(predicted, goal).mean(), vectors)
                    optimizer.step()

            asked, seeds = victim.asked()
            name = f"<{content({'vectors': vectors.detach().cpu()})[:8]}>"  # other vectors, another word
            with torch.no_grad():
                keys = tuple(forms[p].replace(BLANK, name) for p in asked)
                cond = words.condition(written[[place[p] for p in asked]], keys, vectors.expand(len(asked), -1, -1))
            yield Attacked(strength, cond, tuple(seeds), dict(victim.delta))

    def _shown(self, victim: Victim) -> Bank:
        concept, banked = replace(victim.concept, synonyms=()), Training(pictures=self.shown, points=max(POINTS, self.shown))
        # Seeds of its own: not the pictures that a method has unlearned by.
        return forget_bank(victim.session, concept, banked, seed_of("inversion", victim.seed))


def _forms(concept: Concept) -> dict[str, str]:
    """Each prompt of the concept by its main name, and the same with a blank for the name."""
    plain, blank = (replace(concept, target=name, synonyms=()).forget() for name in (concept.target, BLANK))
    return {p.prompt: b.prompt for p, b in zip(plain, blank, strict=True)}


def beginning(words: Words, concept: Concept) -> Float[Tensor, "1 width"]:
    """The mean over the other members of the concept's kind of the mean of their names' vectors; without others, over its partners."""
    kind = concept.vocabulary.kinds[concept.kind]
    others = [m.name for m in kind.members if m != concept.member] or [m.name for m in concept.partners]
    ids = [words.tokenizer(name, add_special_tokens=False).input_ids for name in others]
    return torch.stack([words.vectors(torch.tensor(i, device=words.device)).mean(0) for i in ids]).mean(0, keepdim=True)
