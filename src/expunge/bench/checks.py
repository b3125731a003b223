"""Checks of a suite's table, before any work begins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from expunge.bench.suite import Suite
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.models.defaults import defaults_of
from expunge.names import RETRAINED, suggest

GUIDE = "docs/how-to/run-a-suite.md"

TYPES: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("model", "dtype", "real"), ("a text", str)),
    "judge": ("a text or a table", str | Mapping),
    **dict.fromkeys(("metrics", "tuning"), ("a list of names", list | tuple)),
    **dict.fromkeys(("sampler", "search", "features", "about", "data", "judges"), ("a table", Mapping)),
    "reported": ("a list of tables", list | tuple),
}
"""What values of keys are, where nothing else checks it."""


def check_types(table: Mapping[str, Any], name: str) -> None:
    """Raise an error if a key of the top level has a value of another type than its own."""
    for key, (what, kind) in TYPES.items():
        value = table.get(key)
        if value is not None and (not isinstance(value, kind) or (key == "metrics" and not all(isinstance(v, str) for v in value))):
            raise ExpungeError(
                f"The key {key!r} of the suite {name!r} is {value!r}, not {what}.",
                rule="wrong-type",
                value=value,
                hint=f"Try the form in {GUIDE}.",
            )


def check_suite(suite: Suite) -> None:
    for entry in suite.methods:
        if odd := [s for s in entry.seeds or () if s not in suite.seeds]:
            raise ExpungeError(
                f"The seed {odd[0]} of {entry.label!r} is not a seed of the suite {suite.name!r}.",
                rule="unknown-seed",
                value=odd[0],
                hint=f"Try some of {', '.join(map(str, suite.seeds))}.",
            )
    if any(e.name == RETRAINED for e in suite.methods) and not (suite.model and defaults_of(suite.model).has_real_images):
        raise ExpungeError(
            f"The model of the suite {suite.name!r} is {suite.model!r}, but only the canvas can be retrained.",
            rule="not-the-canvas",
            value=suite.model,
            hint=f"Try the suite without the method {RETRAINED!r}.",
        )
    first = {u.id: u for u in reversed(suite.units)}
    if twice := next((u for u in suite.units if first[u.id] is not u), None):
        raise ExpungeError(
            f"The suite {suite.name!r} has the same run twice, the second time as {twice.name!r}.",
            rule="unit-twice",
            value=twice.name,
            hint="Try only one of the two entries.",
        )


def check_distinct(reported: Sequence[Subject], name: str) -> None:
    """Raise an error if two entries are the same concept by different names, which would count twice."""
    seen: dict[tuple[str, str], str] = {}
    for concept in reported:
        if isinstance(concept, Concept):
            if concept.identity in seen:
                raise ExpungeError(
                    f"{seen[concept.identity]!r} and {concept.target!r} in the suite {name!r} are the same concept.",
                    rule="concept-twice",
                    value=(seen[concept.identity], concept.target),
                    hint="Try only one of the two.",
                )
            seen[concept.identity] = concept.target


def check_named(named: Iterable[tuple[str, str]], vocabulary: Vocabulary, reported: Sequence[Subject], name: str) -> None:
    """Raise an error if a table names a concept that is neither removed nor in the vocabulary. One that is not removed may be named: a
    suite that is like another may remove fewer."""
    removed = {c.target for several in reported for c in several.parts}
    for where, target in named:
        if target not in removed and not vocabulary.find(target):
            raise ExpungeError(
                f"{where} of the suite {name!r} names the concept {target!r}, which the suite does not remove.",
                rule="unknown-concept",
                value=target,
                hint=suggest(target, sorted(removed)),
            )


def check_tuning(reported: Sequence[Subject], tuning: Sequence[Concept], name: str) -> None:
    """Raise an error if a tuning concept is reported too, by any of its names."""
    known = {c.identity for several in reported for c in several.parts}
    if both := [t.target for t in tuning if t.identity in known]:
        raise ExpungeError(
            f"The suite {name!r} has {', '.join(both)} both in `tuning` and among the reported concepts.",
            rule="tuning-reported",
            value=both,
            hint="Try to remove each from one of the two.",
        )
