"""Several concepts that one run removes: all at once, or one after another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast, get_args

from expunge.concepts.concept import Concept, ForgetPrompt, naming
from expunge.errors import ExpungeError

Together = Literal["joint", "sequential"]
Origin = Literal["original", "previous"]


@dataclass(frozen=True)
class Several:
    """Two concepts or more of one vocabulary. Build it with `Several.of`.

    Each of them knows the others as removed: no marginal, anchor or retained prompt of one names another.
    """

    parts: tuple[Concept, ...]
    together: Together = "joint"
    """joint: every batch holds points of all of them. sequential: a stage for each, which begins where the one before ended."""
    reference: Origin = "original"
    """Of the stages of a sequence: the untouched model, or what the stage before left."""

    @classmethod
    def of(cls, concepts: Sequence[Concept], together: str = "joint", reference: str = "original") -> "Several":
        """Concepts together, each told of the others.

        Raises:
            ExpungeError: a way or a reference that is none; fewer than two; different vocabularies; one concept twice, under
                whatever names; a synonym or an anchor that is another of them.
        """
        for what, value, valid in (("several concepts are removed", together, Together), ("a reference is", reference, Origin)):
            if value not in get_args(valid):
                raise ExpungeError(f"{what} {' or '.join(get_args(valid))}: {value!r} is neither; choose one")
        if reference == "previous" and together == "joint":
            raise ExpungeError("a reference is chosen for stages: 'previous' is given for a joint run; add --sequential, or leave it out")
        if len(concepts) < 2:
            raise ExpungeError(f"several concepts are two or more: there is {len(concepts)}; name another with --target")
        alone = [replace(c, removed=()) for c in concepts]
        for at, one in enumerate(alone):
            for other in alone[:at]:
                _refuse_overlap(other, one)
        parts = tuple(replace(c, removed=tuple(o for o in alone if o is not c)) for c in alone)
        return cls(parts, cast(Together, together), cast(Origin, reference))

    @property
    def target(self) -> str:
        """What tables call it: "neon + ring" together, "neon then ring" in sequence."""
        return titled([c.target for c in self.parts], self.together)

    @property
    def names(self) -> tuple[str, ...]:
        """The words to erase."""
        return tuple(n for c in self.parts for n in c.names)

    @property
    def bare(self) -> tuple[str, ...]:
        """The concepts' prompts with nothing else in them."""
        return tuple(p for c in self.parts for p in c.bare)

    def forget(self) -> list[ForgetPrompt]:
        """Every prompt to forget, concept by concept."""
        return [p for c in self.parts for p in c.forget()]

    def retain(self) -> list[str]:
        """Prompts that must survive: those of any of them, none of which names another."""
        return list(dict.fromkeys(p for c in self.parts for p in c.retain()))


Subject: TypeAlias = Concept | Several
"""What a run removes."""


def titled(targets: Sequence[str], together: str) -> str:
    """The concepts of a run in one word.

    >>> titled(["neon", "ring"], "sequential")
    'neon then ring'
    """
    return (" then " if together == "sequential" else " + ").join(targets)


def _refuse_overlap(one: Concept, other: Concept) -> None:
    if one.vocabulary != other.vocabulary:
        raise ExpungeError(
            f"concepts that are removed together are of one vocabulary: {one.target!r} and {other.target!r} are not; "
            "find both in one (see --vocabulary)"
        )
    if one.identity == other.identity:
        raise ExpungeError(
            f"each concept is removed once: {one.target!r} and {other.target!r} are names of {one.member.name!r}; "
            "leave one out, or make it a synonym of the other"
        )
    for mine, its in ((one, other), (other, one)):
        theirs = {n.casefold() for n in its.known}
        if shared := next((n for n in mine.names if n.casefold() in theirs), None):
            raise ExpungeError(
                f"a name belongs to one concept: {shared!r} is given for {mine.target!r} and is a name of {its.target!r}; "
                "leave it out of one of the two"
            )
        if mine.anchor and naming(its.known).search(mine.anchor):
            raise ExpungeError(
                f"an anchor stays: {mine.target!r} is to become {mine.anchor!r}, which is removed as {its.target!r}; choose another anchor"
            )
