"""Read the methods and concepts of a suite's table."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from expunge import config
from expunge.bench.suite import Entry
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.tables import read_entry
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.methods.config import Layer
from expunge.methods.presets import read_preset
from expunge.names import RETRAINED, suggest

METHOD_KEYS = ("name", "label", "synonyms", "seeds", "concepts", "training", "before", "space")
"""The keys of an entry of `methods` that are not settings of the method."""
CONCEPT_KEYS = ("target", "anchor", "kind")
SEVERAL_KEYS = ("targets", "together", "reference")


def check_keys(table: Mapping[str, Any], keys: Collection[str], what: str) -> None:
    """Raise an error if a table has an unknown key; `what` names the table."""
    for key in table:
        if key not in keys:
            raise ExpungeError(f"{key!r} is not a key of {what}.", rule="unknown-key", value=key, hint=suggest(key, keys))


def read_seeds(given: Any, what: str) -> list[int]:
    """A list of distinct integers; `what` names the suite or the entry that has them."""
    if not isinstance(given, list) or not given or not all(type(s) is int for s in given) or len(set(given)) < len(given):
        raise ExpungeError(
            f"The seeds {given!r} of {what!r} are not a list of distinct integers.",
            rule="invalid-seeds",
            value=given,
            hint="Try a list such as seeds = [0, 1, 2].",
        )
    return given


def read_methods(tables: Sequence[Any], vocabulary: Vocabulary, allow_code: bool) -> tuple[Entry, ...]:
    """The entries of `methods`. The labels of methods are distinct; several retrained references may share one."""
    entries: list[Entry] = []
    for table in tables:
        entry = _read_method(table, vocabulary, allow_code)
        if entry.name != RETRAINED and any(entry.label == e.label for e in entries):
            raise ExpungeError(
                f"The label {entry.label!r} belongs to two entries of methods.",
                rule="label-twice",
                value=entry.label,
                hint="Try another label for one of them.",
            )
        entries.append(entry)
    return tuple(entries)


def _with_preset(table: Any) -> Any:
    """An entry of methods with the settings of its preset where it has none of its own."""
    if not isinstance(table, Mapping) or "preset" not in table:
        return table
    of, own = read_preset(str(table["preset"])), {k: v for k, v in table.items() if k != "preset"}
    training = {**of.get("training", {}), **own.get("training", {})}
    return {"label": table["preset"], **of["method"], "before": of.get("before", []), **own, **({"training": training} if training else {})}


def _read_method(table: Any, vocabulary: Vocabulary, allow_code: bool) -> Entry:
    table = _with_preset(table)
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ExpungeError(
            f"The entry {table!r} of methods has no name.",
            rule="method-without-name",
            value=table,
            hint='Try an entry such as [[methods]] name = "uce", or one with a preset.',
        )
    label, synonyms = str(table.get("label", table["name"])), table.get("synonyms", False)
    if "/" in label:
        raise ExpungeError(
            f"The label {label!r} has a slash, which separates the parts of a unit's name.",
            rule="label-with-slash",
            value=label,
            hint="Try a label without a slash.",
        )
    if not isinstance(synonyms, bool):
        raise ExpungeError(
            f"The synonyms {synonyms!r} of {label!r} are not true or false.",
            rule="synonyms-not-boolean",
            value=synonyms,
            hint="Try true, to erase the concept's other names too, or false.",
        )
    seeds = tuple(read_seeds(table["seeds"], label)) if "seeds" in table else None
    concepts = tuple(read_subject(c, vocabulary) for c in table["concepts"]) if "concepts" in table else None
    settings = {k: v for k, v in table.items() if k not in METHOD_KEYS}
    if table["name"] == RETRAINED:
        return _retraining(label, settings, table.get("training", {}), seeds, concepts)
    layer = Layer.make(table["name"], settings, table.get("training", {}), allow_code)
    return Entry(
        name=table["name"],
        label=label,
        synonyms=synonyms,
        settings=config.settings(layer.method),
        training=config.settings(layer.training) if layer.training else {},
        space=table.get("space", {}),
        seeds=seeds,
        concepts=concepts,
        before=tuple(Layer.of(earlier, allow_code).tables for earlier in _read_before(table.get("before", []), label)),
    )


def _read_before(given: Any, label: str) -> list[Any]:
    if not isinstance(given, list) or not all(isinstance(b, str | Mapping) for b in given):
        raise ExpungeError(
            f"The value {given!r} of `before` of {label!r} is not a list of methods.",
            rule="invalid-before",
            value=given,
            hint='Try names or tables, such as before = ["uce"].',
        )
    return given


def _retraining(
    label: str,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    seeds: tuple[int, ...] | None,
    concepts: tuple[Subject, ...] | None,
) -> Entry:
    from expunge.canvas.training.retrain import Retraining

    if settings:
        raise ExpungeError(
            f"Retraining has no settings of its own, but {', '.join(settings)} is given.",
            rule="settings-of-retraining",
            value=dict(settings),
            hint="Try to put them under training.",
        )
    return Entry(RETRAINED, label, False, {}, config.settings(config.build(Retraining, training, RETRAINED)), {}, seeds, concepts)


def read_subject(given: Any, vocabulary: Vocabulary) -> Subject:
    """A concept, or several: a list of concepts, or a table with `targets`."""
    table: Any = {"targets": given} if isinstance(given, list) else given
    if not isinstance(table, Mapping) or "targets" not in table:
        return read_concept(given, vocabulary)
    check_keys(table, SEVERAL_KEYS, "an entry of several concepts")
    if not isinstance(table["targets"], list):
        raise ExpungeError(
            f"The targets {table['targets']!r} are not a list.",
            rule="not-a-list",
            value=table["targets"],
            hint='Try a list such as targets = ["neon", "ring"].',
        )
    parts = [read_concept(one, vocabulary) for one in table["targets"]]
    return Several.of(parts, table.get("together", "joint"), table.get("reference", "original"))


def read_concept(given: Any, vocabulary: Vocabulary) -> Concept:
    """A concept: a name, or a table with `target`."""
    table = {"target": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or not isinstance(table.get("target"), str):
        raise ExpungeError(
            f"{given!r} is neither the name of a concept nor a table with a target.",
            rule="invalid-concept",
            value=given,
            hint="Try a name that `expunge ls concepts` lists.",
        )
    check_keys(table, CONCEPT_KEYS, "a concept")
    return read_entry(table).find(vocabulary)
