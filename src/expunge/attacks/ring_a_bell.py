"""Ring-A-Bell: the concept's direction in the text encoder, put into other words."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import CoordinateSearch, drawn
from expunge.attacks.base import Attack, Attacked, Victim, plain
from expunge.concepts.concept import Concept
from expunge.config import version_of
from expunge.models.base import DiffusionModel
from expunge.models.text_encoder import BLANK, Vectors, Words
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import digest, seed_of

BATCH = 256
"""Prompts that the text encoder reads at once."""


@dataclass(frozen=True)
class RingABell(Attack):
    """Search prompts that do not name the concept, and that the text encoder takes for prompts that do.

        c = mean_f [ E(c_f) - E(c_0) ],    min_{w in vocabulary^k} || E(w) - (E(c_0) + eta c) ||^2

    with E the text encoder, c_f a prompt with the concept and c_0 the same with it deleted. Choose it to ask what someone can do who
    has only the public text encoder, which unlearning of the network leaves as it is: the same prompts are found for every victim.
    It needs words to find: the canvas has none for a concept but its two names, neither of which is used, and those of its siblings.

    A larger strength is a larger eta: more of the concept, and less of all else that the prompt says.

    Source: arXiv 2310.10012: the direction, the target and the distance over all tokens. Its pairs are written by hand or by a
    language model, its starting prompts are those of I2P, and a genetic search finds the words (in the released code of 200 prompts
    over 3000 generations, for eta 3). Ours are the vocabulary's own pairs, that the concept's names are left out, and the greedy
    search by coordinate gradients, which the attacker has with the text encoder: on the canvas it came nearer in the same time.
    """

    tokens: Annotated[int, Ge(1)] = 8
    """k: words of the prompt; as many as the text encoder has room for, where these are fewer. More can say more (the paper has 16, 38
    or 77), and are harder to search."""
    eta: Annotated[int, Ge(1)] = 3
    """The largest strength: how many times the direction is added. There is a reading at each whole number up to it."""
    steps: Annotated[int, Ge(1)] = 60
    """Steps of the search at each strength, from the words of the one before. More come nearer."""
    tries: Annotated[int, Ge(1)] = 16
    """Changes that a step evaluates of each prompt. More find more in a step that costs more."""

    unit: ClassVar[str] = "eta"
    changes_weights: ClassVar[bool] = False
    threat: ClassVar[str] = "the public text encoder"

    @property
    def strengths(self) -> tuple[float, ...]:
        return tuple(float(eta) for eta in range(self.eta + 1))

    def cost(self, victim: Victim) -> tuple[int, int]:
        return 0, 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        model, concept, words = victim.model, victim.concept, Words(victim.model)
        asked, seeds = victim.asked()
        start, towards = without(model, concept, asked), direction(model, concept)
        among, tokens = words.candidates(concept.known), min(self.tokens, words.room)
        written = words.write([BLANK], tokens)
        ids = drawn(among, len(asked), tokens, seed_of("bell", victim.seed))
        pairs, code = [p.prompt for p in concept.forget()], code_digest(*modules_of(self, model))
        searched = model.fingerprint, asked, pairs, victim.seed, asdict(self), among.tolist(), version_of("expunge"), code
        yield plain(victim, 0.0, {})

        for eta in self.strengths[1:]:
            goal = start + eta * towards

            def losses(vectors: Float[Tensor, "b blanks width"], rows: list[int], goal: Vectors = goal) -> Float[Tensor, " b"]:
                return (words.encode(written[[0] * len(rows)], vectors) - goal[rows]).square().flatten(1).mean(1)

            search = CoordinateSearch(words, among, losses, ids, self.tries, BATCH)
            key = digest("ring-a-bell", *searched, eta)
            if (kept := victim.session.cache.get(key)) is None:  # the same words for every victim: the search never looks at the network
                for _ in victim.session.progress.track(range(self.steps), f"words near {concept.target}, eta {eta:g}"):
                    search.step()
                victim.session.cache.put(key, kept := {"ids": search.ids.cpu()})
            ids = kept["ids"].to(model.device)
            with torch.no_grad():
                cond = words.condition(written[[0] * len(asked)].filled(ids), tuple(words.read(found) for found in ids))
            yield Attacked(eta, cond, tuple(seeds), dict(victim.delta))


def direction(model: DiffusionModel, concept: Concept) -> Float[Tensor, "1 tokens width"]:
    """c: the mean over the concept's prompts of what its name adds to their encoding."""
    forget = concept.forget()
    named, bare = (model.encode(prompts).states for prompts in ([p.prompt for p in forget], [p.context for p in forget]))
    return (named - bare).mean(0, keepdim=True)


def without(model: DiffusionModel, concept: Concept, asked: list[str]) -> Vectors:
    """E(c_0): the encodings of the prompts with the concept deleted."""
    context = {p.prompt: p.context for p in concept.forget()}
    return model.encode([context[prompt] for prompt in asked]).states
