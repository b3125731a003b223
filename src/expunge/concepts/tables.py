"""Convert concepts to tables of a configuration or a card, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from expunge import config
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject, join_targets
from expunge.concepts.vocabulary import Vocabulary
from expunge.names import dashed


def slug(concept: Subject) -> str:
    """The concept's part of a run id, such as "neon-and-ring"."""
    text = concept.target
    if isinstance(concept, Several):
        first, *rest = (c.target for c in concept.parts)
        text = f"{first} {'then' if concept.together == 'sequential' else 'and'} {rest[0] if len(rest) == 1 else f'{len(rest)} more'}"
    return dashed(text)


def concept_table(concept: Subject) -> dict[str, Any]:
    """A concept or several as a table that TOML can hold. It contains the vocabulary, or the name of a built-in one."""
    vocabulary = concept.parts[0].vocabulary
    builtin = next((n for n, make in VOCABULARIES.items() if make() == vocabulary), None)
    closed = {"closed": True} if vocabulary.closed else {}
    words = {"vocabulary": builtin or closed | {n: config.settings(k) for n, k in vocabulary.kinds.items()}}
    if isinstance(concept, Concept):
        removed = [_one_table(c) for c in concept.removed]
        return _one_table(concept) | ({"removed": removed} if removed else {}) | words
    stages = {"reference": concept.reference} if concept.together == "sequential" else {}
    return {"together": concept.together} | stages | {"targets": [_one_table(c) for c in concept.parts]} | words


@dataclass(frozen=True)
class ConceptEntry:
    """The entry of a concept in a configuration, a suite or a card. Every such entry is read as one, so that its types are checked."""

    target: str
    kind: str | None = None
    synonyms: str | tuple[str, ...] = ()
    anchor: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The synonyms as a tuple; a string is one name."""
        return (self.synonyms,) if isinstance(self.synonyms, str) else self.synonyms

    def find(self, vocabulary: Vocabulary) -> Concept:
        """Find the concept in a vocabulary, as `Concept.find` does."""
        return Concept.find(self.target, vocabulary, self.synonyms, self.anchor, self.kind)


def read_entry(table: Mapping[str, Any]) -> ConceptEntry:
    """Read the entry of a concept in a configuration or a suite.

    Raises:
        ExpungeError: a key is unknown, or a value is not a text (`synonyms`: not a text or a list of texts).
    """
    return config.build(ConceptEntry, table, "concept", see="`expunge ls concepts`")


def _one_table(concept: Concept) -> dict[str, Any]:
    table: dict[str, Any] = {"target": concept.target, "kind": concept.kind, "synonyms": list(concept.synonyms)}
    return table | ({"anchor": concept.anchor} if concept.anchor else {})


def concept_from(table: Mapping[str, Any]) -> Subject:
    """The inverse of `concept_table`."""
    words = table.get("vocabulary", "general")
    vocabulary = VOCABULARIES[words]() if isinstance(words, str) else Vocabulary.from_tables(words)
    if "targets" in table:
        parts = [_one_from(t, vocabulary) for t in table["targets"]]
        return Several.of(parts, table.get("together", "joint"), table.get("reference", "original"))
    return replace(_one_from(table, vocabulary), removed=tuple(_one_from(t, vocabulary) for t in table.get("removed", ())))


def _one_from(table: Mapping[str, Any], vocabulary: Vocabulary) -> Concept:
    entry = read_entry({k: v for k, v in table.items() if k in {f.name for f in fields(ConceptEntry)}})
    if entry.kind and entry.kind in vocabulary.kinds and not vocabulary.closed and entry.target.strip():
        # A table has the names as they were found. An older version may have accepted a name that is refused now.
        return Concept(entry.target, entry.kind, vocabulary, entry.names, entry.anchor)
    return replace(entry.find(vocabulary), target=entry.target)


def target_of(table: Mapping[str, Any]) -> str:
    """The `target` of the concepts that `concept_table` describes, without building them."""
    return table["target"] if "target" in table else join_targets([t["target"] for t in table["targets"]], table["together"])


VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {"canvas": Vocabulary.canvas, "general": Vocabulary.general}
"""The built-in vocabularies by name."""
