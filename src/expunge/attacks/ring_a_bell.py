"""Ring-A-Bell: prompts near the concept's direction in the text encoder."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from expunge.attacks._coordinate_search import CoordinateSearch, sample_words
from expunge.attacks.base import Attack, Attacked, Victim, make_reading
from expunge.concepts.concept import Concept
from expunge.config import version_of
from expunge.models.base import DiffusionModel
from expunge.models.text_encoder import BLANK, Vectors, Words
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import digest, seed_of

BATCH = 256
"""Prompts that the text encoder encodes at once."""


@dataclass(frozen=True)
class RingABell(Attack):
    """Search unrelated words that the text encoder places near the concept (Ring-A-Bell).

        c = mean_f [ E(c_f) - E(c_0) ],    min_{w in vocabulary^k} || E(w) - (E(c_0) + eta c) ||^2

    with E the text encoder, c_f a prompt with the concept and c_0 the same prompt with the concept deleted. Choose it to test what an
    attacker can do with the public text encoder alone, which unlearning of the network does not change: it finds the same prompts for every
    victim. It needs a vocabulary with related words. The words of the canvas for a concept are only its two names, which the search
    excludes, and the names of its siblings.

    A larger strength is a larger eta: more of the concept, and less of the other contents of the prompt.

    Source: arXiv 2310.10012 for the direction, the target and the distance over all tokens. The paper's pairs are written by hand or by a
    language model, its initial prompts are those of I2P, and a genetic search finds the words (in the released code with 200 prompts over
    3000 generations, for eta 3). Ours are the vocabulary's own pairs, the exclusion of the concept's names, and the greedy search by
    coordinate gradients, which an attacker with the text encoder can compute. On the canvas it came nearer in the same time.
    """

    tokens: Annotated[int, Ge(1)] = 8
    """The number k of words of the prompt, at most what fits into the text encoder. More can express more (the paper has 16, 38 or 77), and
    are harder to search."""
    eta: Annotated[int, Ge(1)] = 3
    """The largest strength: how many times the direction is added. There is a reading at each integer up to it. Larger adds more of the
    concept, and removes more of the rest."""
    steps: Annotated[int, Ge(1)] = 60
    """Steps of the search at each strength, starting with the words of the strength before. More come nearer to the target."""
    tries: Annotated[int, Ge(1)] = 16
    """Changes of each prompt that a step evaluates. More find better words, and a step costs proportionally more."""

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
        start, direction = encode_contexts(model, concept, asked), compute_direction(model, concept)
        among, tokens = words.candidates(concept.known), min(self.tokens, words.room)
        written = words.write([BLANK], tokens)
        ids = sample_words(among, len(asked), tokens, seed_of("bell", victim.seed))
        pairs, code = [p.prompt for p in concept.forget()], code_digest(*modules_of(self, model))
        searched = model.fingerprint, asked, pairs, victim.seed, asdict(self), among.tolist(), version_of("expunge"), code
        yield make_reading(victim, 0.0, {})

        for eta in self.strengths[1:]:
            goal = start + eta * direction

            def losses(vectors: Float[Tensor, "b blanks width"], rows: list[int], goal: Vectors = goal) -> Float[Tensor, " b"]:
                return (words.encode(written[[0] * len(rows)], vectors) - goal[rows]).square().flatten(1).mean(1)

            search = CoordinateSearch(words, among, losses, ids, self.tries, BATCH)
            key = digest("ring-a-bell", *searched, eta)
            # The search does not use the network, so the words are the same for every victim.
            if (kept := victim.session.cache.get(key)) is None:
                for _ in victim.session.progress.track(range(self.steps), f"words near {concept.target}, eta {eta:g}"):
                    search.step()
                victim.session.cache.put(key, kept := {"ids": search.ids.cpu()}, shows=asked)
            ids = kept["ids"].to(model.device)
            with torch.no_grad():
                cond = words.condition(written[[0] * len(asked)].filled(ids), tuple(words.read(row) for row in ids))
            yield Attacked(eta, cond, tuple(seeds), dict(victim.delta))


def compute_direction(model: DiffusionModel, concept: Concept) -> Float[Tensor, "1 tokens width"]:
    """The direction c: the mean over the concept's prompts of the difference that its name makes to their encoding."""
    forget = concept.forget()
    named, bare = (model.encode(prompts).states for prompts in ([p.prompt for p in forget], [p.context for p in forget]))
    return (named - bare).mean(0, keepdim=True)


def encode_contexts(model: DiffusionModel, concept: Concept, asked: list[str]) -> Vectors:
    """E(c_0): the encoding of each prompt with the concept deleted."""
    context = {p.prompt: p.context for p in concept.forget()}
    return model.encode([context[prompt] for prompt in asked]).states
