"""The images of an evaluation: their prompts and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from annotated_types import Ge

from expunge.concepts.concept import Concept, ProbePrompt
from expunge.storage.hashing import seed_of

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """The number of images. More narrow the intervals, and take proportionally longer."""

    seeds: Annotated[int, Ge(1)] = 1
    """Images of each prompt that does not name the concept. More narrow the intervals of what should remain."""
    target_seeds: Annotated[int, Ge(1)] = 5
    """Images of each prompt of the concept and its synonyms, and of the empty prompt. More narrow the intervals of what should be gone."""
    prompts: Annotated[int, Ge(1)] = 250
    """Maximum number of prompts of each probe, spread evenly over its prompts. The canvas has fewer; the general vocabulary has
    thousands."""
    seed: int = 0
    """Seed of the noise from which images start. The base model has the same noise."""


@dataclass(frozen=True)
class Shot:
    """One image to sample."""

    probe: str
    prompt: ProbePrompt
    index: int
    """The index among the prompt's images."""
    noise_seed: int


def plan(concept: Concept, protocol: Protocol) -> list[Shot]:
    """Every image of a protocol."""
    return [
        Shot(probe, prompt, index, seed_of("evaluation", protocol.seed, prompt.prompt, index))
        for probe, prompts in concept.probes().items()
        for prompt in prompts[:: -(-len(prompts) // protocol.prompts) or 1]
        for index in range(protocol.target_seeds if probe in ("target", "synonyms", "null") else protocol.seeds)
    ]


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, evenly spaced. If there are fewer items, some are repeated.

    >>> spread("abcdef", 3), spread("ab", 4)
    (['a', 'c', 'e'], ['a', 'a', 'b', 'b'])
    """
    return [items[i * len(items) // count % len(items)] for i in range(count)]
