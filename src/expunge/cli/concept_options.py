"""Which concepts `--target`, `--synonym` and the other options name, together with the [concept] table of a configuration."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from expunge.cli.options import find_vocabulary
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.tables import ConceptEntry, read_entry
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.names import suggest

ENTRY = ("target", "kind", "synonyms", "anchor")
"""The keys of one concept in a configuration."""


def find_concepts(table: Mapping[str, Any], given: Mapping[str, Any], model: str) -> Subject:
    """The concept to remove, or several if a later `--target` is not another name of the first.

    Args:
        table: The [concept] table of a configuration; empty without one.
        given: Options by name; None or empty if they were not given. They override the table.
        model: The base model, to which a vocabulary belongs.

    Raises:
        ExpungeError: No concept, an unknown one, or options that do not fit together.
    """
    vocabulary, entries = _find_vocabulary(table, given["vocabulary"], model), _list_entries(table)
    named = given["target"] or [e["target"] for e in entries]
    if not named:
        raise ExpungeError(
            "No concept to remove is named.",
            rule="missing-target",
            value=None,
            hint="Try --target 'neon style'; `expunge ls concepts` lists all concepts.",
        )
    found = [_find(named[0], entries, vocabulary, given["kind"])]
    synonyms = [_as_synonym(name, found[0]) for name in named[1:]]
    if len(named) == 1 or (given["target"] and all(synonyms)):
        if given["sequential"] or given["reference"]:
            raise ExpungeError(
                f"The options --sequential and --reference need several concepts, and {found[0].target!r} is the only one.",
                rule="stages-of-one-concept",
                value=found[0].target,
                hint="Try another --target, or leave the option out.",
            )
        return _complete(found[0], entries, [n for n in synonyms if n], given["synonym"], given["anchor"])
    found += [_find(name, entries, vocabulary, given["kind"]) for name in named[1:]]
    if given["anchor"] is not None and len(kinds := {c.kind for c in found}) > 1:
        raise ExpungeError(
            f"The anchor {given['anchor']!r} cannot replace concepts of different kinds ({', '.join(sorted(kinds))}).",
            rule="anchor-of-several-kinds",
            value=given["anchor"],
            hint="Try an anchor for each concept, under [concept] in a configuration.",
        )
    owned = _assign_synonyms(given["synonym"] or (), found)
    concepts = [_complete(c, entries, [], owned.get(c.target), given["anchor"]) for c in found]
    is_sequential = given["sequential"]
    together = table.get("together", "joint") if is_sequential is None else "sequential" if is_sequential else "joint"
    reference = given["reference"] or (table.get("reference", "original") if together == "sequential" else "original")
    return Several.of(concepts, together, reference)


def _assign_synonyms(synonyms: Sequence[str], concepts: Sequence[Concept]) -> dict[str, list[str]]:
    """By target, the synonyms that the vocabulary knows as names of that concept."""
    owned: dict[str, list[str]] = {}
    for synonym in synonyms:
        owner = next((c for c in concepts if _as_synonym(synonym, c)), None)
        if owner is None:
            raise ExpungeError(
                f"The vocabulary does not know {synonym!r} as a name of one of the concepts, so it may belong to any of them.",
                rule="synonym-of-no-concept",
                value=synonym,
                hint="Try giving each concept its synonyms, under [concept] in a configuration.",
            )
        owned.setdefault(owner.target, []).append(synonym)
    return owned


def _list_entries(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configuration's entry of each concept: `target` is a name or a list of names, `targets` a list of tables."""
    target, targets = table.get("target", []), table.get("targets", [])
    if isinstance(target, str) and not targets:
        return [table]
    is_list = isinstance(target, list) and isinstance(targets, list)
    listed = targets or [{"target": name} for name in target] if is_list else [targets or target]
    for entry in listed:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("target"), str) or (target and targets):
            raise ExpungeError(
                f"The table [concept] has {entry!r}, which is not one concept named once.",
                rule="concept-entry",
                value=entry,
                hint="Try target = 'neon', target = ['neon', 'ring'], or targets = [{target = 'neon'}, {target = 'ring'}].",
            )
        if unknown := [key for key in entry if key not in ENTRY]:
            raise ExpungeError(
                f"An entry of targets has an unknown key {unknown[0]!r}.",
                rule="unknown-key",
                value=unknown[0],
                hint=suggest(unknown[0], ENTRY),
            )
    return listed


def _read_entry(entry: Mapping[str, Any]) -> ConceptEntry:
    """An entry, without the keys of [concept] that hold for all concepts."""
    return read_entry({key: value for key, value in entry.items() if key in ENTRY})


def _find(name: str, entries: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, kind: str | None) -> Concept:
    configured = next((_read_entry(e).kind for e in entries if e["target"] == name), None)
    return Concept.find(name, vocabulary, kind=kind or configured)


def _complete(
    concept: Concept, entries: Sequence[Mapping[str, Any]], other_names: list[str], synonyms: list[str] | None, anchor: str | None
) -> Concept:
    """The concept with its synonyms and anchor: those given, else the configuration's."""
    configured = next((_read_entry(e) for e in entries if e["target"] == concept.target), ConceptEntry(concept.target))
    names = other_names + (synonyms or list(configured.names))
    names = [n for n in dict.fromkeys(names) if n != concept.target]
    anchor = configured.anchor if anchor is None else anchor
    return Concept.find(concept.target, concept.vocabulary, tuple(names), anchor, concept.kind)


def _find_vocabulary(table: Mapping[str, Any], file: str | None, model: str) -> Vocabulary:
    configured = table.get("vocabulary")
    if file or configured is None or isinstance(configured, str):
        return find_vocabulary(file or configured, model)
    if isinstance(configured, Mapping):
        return Vocabulary.from_tables(configured, "[concept.vocabulary]")
    raise ExpungeError(
        f"The vocabulary {configured!r} is not a name, a file or a table for each kind.",
        rule="wrong-type",
        value=configured,
        hint="Try the form that `expunge show vocabulary` prints.",
    )


def _as_synonym(name: str, concept: Concept) -> str | None:
    """The name as the vocabulary writes it if it is a name of the concept, else None."""
    with suppress(ExpungeError):
        found = Concept.find(name, concept.vocabulary, kind=concept.kind).target
        return found if found in (concept.member.name, *concept.member.synonyms) else None
    return None
