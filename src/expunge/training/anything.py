"""Anything that the model may be asked: prompts made at random from its tokenizer's own words, and images of them.

Retention that reads a vocabulary spares that vocabulary. These prompts name nothing that a user would have to list, so what they spare does
not depend on a list. A class-conditional model may be asked for its classes and nothing else, so the others' labels are its random prompts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from expunge.concepts.groups import Subject
from expunge.concepts.labels import PREFIX
from expunge.diffusion.types import Cond, Latents
from expunge.errors import ExpungeError
from expunge.methods.base import Training
from expunge.models.base import DiffusionModel
from expunge.models.class_conditional import ClassConditional
from expunge.storage.hashing import seed_of
from expunge.training.banks import Bank, images_of, noised, pictured, sampler_of
from expunge.training.session import Session

EMPTY = 16
"""Every prompt whose number is a multiple of this is empty."""

NEAREST = 8
"""Words that count as read most like a name."""

COMPARED = 1024
"""The largest number of words whose reading is compared with that of a name."""

AT_ONCE = 64
"""Prompts that are encoded at once for that."""

OTHERS = 4
"""A word other than the concept's name is replaced with a probability of 1 / OTHERS."""

TURNED = 0.1, 0.7
"""The shares of the path at which images of the concept are turned into others. Below the first an image hardly changes any more; above the
second it shows too little of the concept."""


@dataclass(frozen=True)
class OtherNames:
    """What random prompts name: words of the tokenizer, or classes of a class-conditional model, without the concept."""

    every: Sequence[str]
    near: Sequence[str]
    """The `NEAREST` of them, which are read most like the concept's name and change first with it. A class-conditional model reads each
    class by a row of its own, so there none is nearer than another, and these are all."""

    @classmethod
    def of(cls, model: DiffusionModel, concept: Subject, seed: int) -> "OtherNames":
        """The nearest are found among at most `COMPARED` words, which the seed chooses.

        Raises:
            ExpungeError: the tokenizer has no other words, or the model no other classes.
        """
        every, generator = other_names(model, concept), torch.Generator().manual_seed(seed_of(seed, "nearest words"))
        return cls(every, every if isinstance(model, ClassConditional) else nearest_words(model, concept, every, generator))


def anything_bank(session: Session, concept: Subject, others: OtherNames, training: Training, seed: int) -> Bank:
    """Images by the base model of random prompts, noised at times spread evenly over the path, each under its own prompt."""
    clean, prompts, _ = _random_images(session, concept, others, training, seed)
    generator = torch.Generator().manual_seed(seed_of(seed, "anything", "noise"))
    return Bank(noised(session.model, "anything", clean, prompts, training.points, generator)[0])


def turned_bank(session: Session, concept: Subject, others: OtherNames, training: Training, seed: int) -> Bank:
    """Images of the concept, noised at the times `TURNED`, each under a random prompt, with that prompt's image as the goal.

    The images are those of `forget_bank` and `anything_bank`, and the two of a pair begin with the same initial noise.
    """
    clean, prompts, of = _random_images(session, concept, others, training, seed)
    chosen, seeds = images_of(concept, training, seed)
    shown = pictured(session, "forget", [p.prompt for p in chosen], seeds, sampler_of(session.model, training))
    generator = torch.Generator().manual_seed(seed_of(seed, "turned", "noise"))
    points, which = noised(session.model, "turned", shown[of], prompts, training.points, generator, TURNED)
    return Bank(replace(points, goal=session.model.path.towards(clean[which], points.x_t, points.t)))


def _random_images(
    session: Session, concept: Subject, others: OtherNames, training: Training, seed: int
) -> tuple[Latents, list[str], list[int]]:
    """Images of random prompts, their prompts, and the image of the concept that each has its sentence and its initial noise from."""
    chosen, seeds = images_of(concept, training, seed)
    of = [i % len(chosen) for i in range(min(training.retain_pictures, training.points))]
    prompts = anything(session.model, concept, others, [chosen[i].prompt for i in of], seed)
    return pictured(session, "anything", prompts, [seeds[i] for i in of], sampler_of(session.model, training)), prompts, of


def anything(model: DiffusionModel, concept: Subject, others: OtherNames, prompts: Sequence[str], seed: int) -> list[str]:
    """Random prompts: each of the concept's with a word of the tokenizer in place of its name, in half of them a near one, and of some of
    their other words; some empty. For a class-conditional model the labels of other classes.

    None holds a word of the concept's given names, or of any name of a concept that was removed before.
    """
    words, generator = others.every, torch.Generator().manual_seed(seed_of(seed, "anything"))
    made = []
    for i, prompt in enumerate(prompts):
        renamed = _renamed(model, prompt, concept, (others.every, others.near)[_pick(2, generator)], generator)
        if not isinstance(model, ClassConditional):
            renamed = " ".join(words[_pick(len(words), generator)] if _pick(OTHERS, generator) == 0 else w for w in renamed.split())
        made.append("" if i % EMPTY == 0 else renamed)
    return made


def other_words(model: DiffusionModel, concept: Subject, others: OtherNames, prompts: Sequence[str], seed: int) -> tuple[str, ...]:
    """Each of the concept's prompts with a word of the tokenizer in place of its name: in every second prompt a random word, in the others
    a near one. For a class-conditional model the labels of other classes."""
    generator = torch.Generator().manual_seed(seed_of(seed, "other words"))
    named = others.every, others.near
    return tuple(_renamed(model, prompt, concept, named[i % 2], generator) for i, prompt in enumerate(prompts))


def nearest_words(model: DiffusionModel, concept: Subject, words: Sequence[str], generator: torch.Generator) -> list[str]:
    """The `NEAREST` of at most `COMPARED` random words, with the least distance between the states of a bare prompt with the word
    and with a name."""
    some = [words[i] for i in torch.randperm(len(words), generator=generator)[:COMPARED].tolist()]
    distances = torch.full((len(some),), torch.inf)
    for part in concept.parts:
        for name, bare in zip(part.names, (p.prompt for p in part.forget() if p.is_bare), strict=True):
            texts = [bare, *(bare.replace(name, word) for word in some)]
            read = Cond.cat([model.encode(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)])
            states = read.states.float() * read.extra["mask"].unsqueeze(-1) if "mask" in read.extra else read.states.float()
            own, *others = states.flatten(1).cpu()
            distances = torch.minimum(distances, (torch.stack(others) - own).norm(dim=1))
    return [some[i] for i in distances.argsort()[:NEAREST].tolist()]


def _renamed(model: DiffusionModel, prompt: str, concept: Subject, words: Sequence[str], generator: torch.Generator) -> str:
    word = words[_pick(len(words), generator)]
    if isinstance(model, ClassConditional):
        return PREFIX + word
    names = sorted((name for part in concept.parts for name in part.names), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), word, prompt)


def _names(concept: Subject) -> set[str]:
    """The given names, and every known name of what was removed before."""
    removed = (name for part in concept.parts for c in part.removed for name in c.known)
    return {*(name for part in concept.parts for name in part.names), *removed}


def _pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def other_names(model: DiffusionModel, concept: Subject) -> list[str]:
    """What random prompts name: the tokenizer's words, or the classes of a class-conditional model, without the concept.

    Raises:
        ExpungeError: there is nothing else.
    """
    names = _names(concept)
    if not isinstance(model, ClassConditional):
        return tokenizer_words(model.readings[0].tokenizer, names)
    taken = {model.number_of(PREFIX + name) for name in names}
    if found := [label for number, label in enumerate(model.labels) if number not in taken]:
        return found
    raise ExpungeError(
        "The model has no classes beside the concept's own, and random prompts are labels of others.",
        rule="no-words-for-prompts",
        value=sorted(names),
        hint="Try to leave at least one class.",
    )


def tokenizer_words(tokenizer: Any, names: set[str]) -> list[str]:
    """The words of two letters or more that are one token each, without those that hold a word of `names` or are held by one.

    Raises:
        ExpungeError: there is none.
    """
    taken = {part for name in names for part in re.findall(r"\w+", name.casefold())}
    spelt = {text.strip() for text in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])}
    free = sorted(
        text
        for text in spelt
        if re.fullmatch("[a-z]{2,}", text) and not any(text == part or (len(part) > 2 and part in text) for part in taken)
    )
    typed = [text for word in free for text in (word, f" {word}")]  # some tokenizers have a word with the blank before it
    ids = tokenizer(typed, add_special_tokens=False).input_ids if typed else []
    if found := [word for word, first, later in zip(free, ids[::2], ids[1::2], strict=True) if 1 in (len(first), len(later))]:
        return found
    raise ExpungeError(
        "The tokenizer has no words beside the concept's own, and random prompts are made of them.",
        rule="no-words-for-prompts",
        value=sorted(names),
        hint="Try another method, such as mim-mu.",
    )
