"""The images of an evaluation: their prompts and seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args

from annotated_types import Ge

from expunge.concepts.concept import Concept, ProbePrompt
from expunge.errors import ExpungeError
from expunge.names import suggest
from expunge.storage.hashing import seed_of

T = TypeVar("T")

BudgetName = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Budget:
    """How many images of each prompt set an evaluation makes, of each concept and each of both models."""

    images: Mapping[str, int]
    """By probe. Where the concept has no prompts of a probe, another takes its images; see `INSTEAD`."""
    metrics: tuple[str, ...] | None = None
    """The metrics for which these are enough images; None: all."""
    has_drift: bool = True
    """Whether `null_drift` is measured, which takes 32 images of its own."""


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget({"target": 35, "siblings": 4, "same_domain": 21}, ("UA", "IRA", "CRA", "ORA"), has_drift=False),
    "standard": Budget({"target": 75, "synonyms": 45, "siblings": 60, "same_domain": 60, "cross_domain": 50, "null": 10}),
}
"""quick has 60 images. 35 of the concept: if the judge sees it in none, the interval of UA is 90 % to 100 %. 25 others, of which 21 are
of other families: if no image changes, the interval of a paired change is at most 12 points to either side, so that "no damage" can be
shown. NRA, UA_syn and distances would need more. standard has 300: UA within 5 points where it is 100 %, and 6 points to either side for a
paired change of each metric. full is what the numbers of a `Protocol` say."""

INSTEAD: Mapping[str, tuple[str, ...]] = {
    "synonyms": ("target",),
    "siblings": ("same_domain", "cross_domain"),
    "same_domain": ("siblings", "cross_domain"),
    "cross_domain": ("same_domain", "siblings"),
}
"""The probes, the first that has prompts, that get the images of a probe without prompts."""

ROUNDS: Mapping[str, int] = {"target": 32, "synonyms": 16, "siblings": 12, "same_domain": 12, "cross_domain": 8, "null": 2}
"""Images of each probe in the first round of an evaluation that stops early. Each further round doubles them."""


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
    budget: BudgetName = "full"
    """quick: 60 images of each model, enough for a verdict whose intervals are about 10 points wide. standard: 300. full: as many as
    `seeds`, `target_seeds` and `prompts` say, which quick and standard do not use."""

    def __post_init__(self) -> None:
        if self.budget not in get_args(BudgetName):
            known = get_args(BudgetName)
            raise ExpungeError(
                f"{self.budget!r} is not a budget.", rule="unknown-budget", value=self.budget, hint=suggest(self.budget, known)
            )
        numbers = ("seeds", "target_seeds", "prompts")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in numbers and getattr(self, f.name) != f.default}
        if self.budget != "full" and given:
            name, value = next(iter(given.items()))
            raise ExpungeError(
                f"The budget {self.budget} says how many images there are, so {name} = {value} has no effect.",
                rule="budget-and-numbers",
                value=name,
                hint=f"Try the budget full, or leave {name} out.",
            )

    @property
    def table(self) -> dict[str, Any]:
        """The settings that have an effect, for `evaluation.json`."""
        if self.budget not in BUDGETS:
            return asdict(self)
        return {"seed": self.seed, "budget": self.budget, **BUDGETS[self.budget].images}

    @property
    def metrics(self) -> tuple[str, ...] | None:
        """The metrics for which the images are enough; None: all."""
        return BUDGETS[self.budget].metrics if self.budget in BUDGETS else None

    @property
    def has_drift(self) -> bool:
        """Whether `null_drift` is measured."""
        return self.budget not in BUDGETS or BUDGETS[self.budget].has_drift


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
    probes = concept.probes()
    counts = _counts(probes, BUDGETS[protocol.budget]) if protocol.budget in BUDGETS else None
    return [
        Shot(probe, prompt, index, seed_of("evaluation", protocol.seed, prompt.prompt, index))
        for probe, prompts in probes.items()
        for prompt, index in (_each(probe, prompts, protocol) if counts is None else _so_many(prompts, counts[probe]))
    ]


def _each(probe: str, prompts: Sequence[ProbePrompt], protocol: Protocol) -> Iterator[tuple[ProbePrompt, int]]:
    """Each prompt, spread evenly if they are too many, with each of its seeds."""
    for prompt in prompts[:: -(-len(prompts) // protocol.prompts) or 1]:
        for index in range(protocol.target_seeds if probe in ("target", "synonyms", "null") else protocol.seeds):
            yield prompt, index


def _so_many(prompts: Sequence[ProbePrompt], count: int) -> Iterator[tuple[ProbePrompt, int]]:
    """`count` images: of prompts spread evenly, or of all of them in turn."""
    if count <= len(prompts):
        yield from ((prompt, 0) for prompt in spread(prompts, count))
    else:
        yield from ((prompts[i % len(prompts)], i // len(prompts)) for i in range(count))


def _counts(probes: Mapping[str, Sequence[ProbePrompt]], budget: Budget) -> dict[str, int]:
    """The images of each probe that has prompts."""
    counts = dict.fromkeys(probes, 0)
    for probe, count in budget.images.items():
        if taker := next((p for p in (probe, *INSTEAD.get(probe, ())) if probes[p]), None):
            counts[taker] += count
    return counts


def rounds(shots: Sequence[Shot]) -> list[list[int]]:
    """The places of the images that there are after each round of an evaluation that may stop early; after the last, all.

    A round doubles the images of each probe, until there are no more. Each holds the ones before it, and its prompts are spread over
    those of the probe: first one image of each prompt, then further ones. Which images a round has is known before any is made.
    """
    of = {probe: _ordered([i for i, s in enumerate(shots) if s.probe == probe], shots) for probe in {s.probe: None for s in shots}}
    found, times = list[list[int]](), 1
    while not found or len(found[-1]) < len(shots):
        found.append(sorted(i for probe, places in of.items() for i in places[: times * ROUNDS[probe]]))
        times *= 2
    return found


def _ordered(places: Sequence[int], shots: Sequence[Shot]) -> list[int]:
    """Places of one probe: by the index among a prompt's images, then so that the first prompts are spread over all."""
    rank = {prompt: i for i, prompt in enumerate(dict.fromkeys(shots[i].prompt.prompt for i in places))}
    bits = max(1, (len(rank) - 1).bit_length())
    return sorted(places, key=lambda i: (shots[i].index, int(f"{rank[shots[i].prompt.prompt]:0{bits}b}"[::-1], 2)))


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, evenly spaced. If there are fewer items, some are repeated.

    >>> spread("abcdef", 3), spread("ab", 4)
    (['a', 'c', 'e'], ['a', 'a', 'b', 'b'])
    """
    return [items[i * len(items) // count % len(items)] for i in range(count)]
