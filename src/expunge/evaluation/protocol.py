"""Which images an evaluation makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from annotated_types import Ge

from expunge.concepts.concept import Concept, ProbePrompt
from expunge.storage.hashing import seed_of

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """How much is rendered. More seeds narrow the intervals; time grows in proportion."""

    seeds: Annotated[int, Ge(1)] = 1
    """Pictures of each retained prompt."""
    target_seeds: Annotated[int, Ge(1)] = 5
    """Pictures of each prompt of the concept and its synonyms."""
    prompts: Annotated[int, Ge(1)] = 250
    """At most so many prompts of each probe, spread evenly over them. The canvas has fewer; the general vocabulary has thousands."""
    seed: int = 0
    """Of the noise that pictures start from; the same for the untouched model."""


@dataclass(frozen=True)
class Shot:
    """One picture to make."""

    probe: str
    prompt: ProbePrompt
    index: int
    """Which of the prompt's pictures."""
    noise_seed: int


def plan(concept: Concept, protocol: Protocol) -> list[Shot]:
    """Every picture of the protocol."""
    return [
        Shot(probe, prompt, index, seed_of("evaluation", protocol.seed, prompt.prompt, index))
        for probe, prompts in concept.probes().items()
        for prompt in prompts[:: -(-len(prompts) // protocol.prompts) or 1]
        for index in range(protocol.target_seeds if probe in ("target", "synonyms", "null") else protocol.seeds)
    ]


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, evenly spaced by their place; some of them more than once if there are fewer.

    >>> spread("abcdef", 3), spread("ab", 4)
    (['a', 'c', 'e'], ['a', 'a', 'b', 'b'])
    """
    return [items[i * len(items) // count % len(items)] for i in range(count)]
