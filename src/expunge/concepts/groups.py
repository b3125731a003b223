"""Several concepts that one run removes, jointly or in a sequence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast, get_args

from expunge.concepts.concept import Concept, ForgetPrompt
from expunge.concepts.name_set import compile_names
from expunge.errors import ExpungeError
from expunge.names import suggest

Together = Literal["joint", "sequential"]
Origin = Literal["original", "previous"]


@dataclass(frozen=True)
class Several:
    """Two or more concepts of one vocabulary that one run removes.

    Build it with `Several.of`. Each concept has the others as its `removed` concepts, so no marginal, anchor or retain prompt of one
    contains another.
    """

    parts: tuple[Concept, ...]
    together: Together = "joint"
    """How they are removed. joint: every batch contains points of all concepts. sequential: one stage for each concept, which starts
    from the weights of the stage before."""
    reference: Origin = "original"
    """The reference of the later stages of a sequence. original: the base model. previous: the result of the stage before."""

    @classmethod
    def of(cls, concepts: Sequence[Concept], together: str = "joint", reference: str = "original") -> "Several":
        """Combine concepts; each gets the others as its `removed` concepts.

        Raises:
            ExpungeError: an unknown value of `together` or `reference`; fewer than two concepts; different vocabularies; a concept
                twice, by any of its names; a synonym or an anchor that names another of the concepts.
        """
        if together not in get_args(Together):
            raise ExpungeError(
                f"{together!r} is not a way to remove several concepts.",
                rule="unknown-together",
                value=together,
                hint=suggest(str(together), get_args(Together)),
            )
        if reference not in get_args(Origin):
            raise ExpungeError(
                f"{reference!r} is not a reference for the stages of a sequence.",
                rule="unknown-reference",
                value=reference,
                hint=suggest(str(reference), get_args(Origin)),
            )
        if reference == "previous" and together == "joint":
            raise ExpungeError(
                "A joint run has no stages, so its reference cannot be 'previous'.",
                rule="reference-without-stages",
                value=reference,
                hint="Try --sequential, or leave --reference out.",
            )
        if len(concepts) < 2:
            raise ExpungeError(
                f"The number of concepts is {len(concepts)}, but a group needs at least two.",
                rule="too-few-concepts",
                value=len(concepts),
                hint="Try another --target.",
            )
        alone = [replace(c, removed=()) for c in concepts]
        for at, one in enumerate(alone):
            for other in alone[:at]:
                _check_apart(other, one)
        parts = tuple(replace(c, removed=tuple(o for o in alone if o is not c)) for c in alone)
        return cls(parts, cast(Together, together), cast(Origin, reference))

    @property
    def target(self) -> str:
        """The targets in one text: "neon + ring" if joint, "neon then ring" if sequential."""
        return join_targets([c.target for c in self.parts], self.together)

    @property
    def names(self) -> tuple[str, ...]:
        """The names to erase, of all concepts."""
        return tuple(n for c in self.parts for n in c.names)

    @property
    def bare(self) -> tuple[str, ...]:
        """The prompts that contain one concept alone."""
        return tuple(p for c in self.parts for p in c.bare)

    def forget(self) -> list[ForgetPrompt]:
        """The prompts to forget, concept by concept."""
        return [p for c in self.parts for p in c.forget()]

    def retain(self) -> list[str]:
        """The retain prompts of all concepts, without duplicates. None contains a removed concept."""
        return list(dict.fromkeys(p for c in self.parts for p in c.retain()))


Subject: TypeAlias = Concept | Several
"""What a run removes."""


def join_targets(targets: Sequence[str], together: str) -> str:
    """The targets of a run in one text.

    >>> join_targets(["neon", "ring"], "sequential")
    'neon then ring'
    """
    return (" then " if together == "sequential" else " + ").join(targets)


def _check_apart(one: Concept, other: Concept) -> None:
    """Raise an error if two concepts share a name or differ in vocabulary, or if the anchor of one names the other."""
    if one.vocabulary != other.vocabulary:
        raise ExpungeError(
            f"{one.target!r} and {other.target!r} are of different vocabularies, so they cannot be removed together.",
            rule="different-vocabularies",
            value=(one.target, other.target),
            hint="Try to find both in one vocabulary (--vocabulary).",
        )
    if one.identity == other.identity:
        raise ExpungeError(
            f"{one.target!r} and {other.target!r} are names of the same concept, {one.member.name!r}.",
            rule="concept-twice",
            value=(one.target, other.target),
            hint="Try only one of them, with the other as --synonym.",
        )
    for mine, its in ((one, other), (other, one)):
        theirs = {n.casefold() for n in its.known}
        if shared := next((n for n in mine.names if n.casefold() in theirs), None):
            raise ExpungeError(
                f"{shared!r} is given as a name of {mine.target!r} and is also a name of {its.target!r}.",
                rule="shared-name",
                value=shared,
                hint="Try to leave it out of one of the two.",
            )
        if mine.anchor and compile_names(its.known).search(mine.anchor):
            raise ExpungeError(
                f"The anchor of {mine.target!r} is {mine.anchor!r}, but {its.target!r} is removed as well.",
                rule="removed-anchor",
                value=mine.anchor,
                hint="Try another anchor.",
            )
