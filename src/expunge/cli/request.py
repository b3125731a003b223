"""What a person asks `unlearn` for: flags laid over a configuration, and checked as far as that goes without the model."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from expunge import config
from expunge.cli.options import CANVAS
from expunge.cli.screen import nearest
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.tables import Told, told
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation.early_stopping import RULES
from expunge.methods import METHODS
from expunge.methods.base import Method, Objective, Training
from expunge.methods.config import Layer, find_method, method_name
from expunge.methods.presets import PRESETS, read_preset
from expunge.models.defaults import defaults_of
from expunge.training.stopping import StoppingRule

KEYS: dict[str, tuple[str, ...]] = {
    "model": ("name", "fingerprint", "dtype"),
    "seed": (),
    "concept": ("target", "kind", "synonyms", "anchor", "vocabulary", "targets", "together", "reference"),
    "method": (),
    "training": (),
    "before": ("method", "training"),
    "stop": ("rule", "every", "pictures", "seen", "judge"),
}
"""What a configuration may hold. The settings in `method` and `training` are checked where they are read."""

TABLES = ("before",)
"""Those that are lists of tables."""

ENTRY = ("target", "kind", "synonyms", "anchor")
"""What it may hold of each of several concepts."""


@dataclass(frozen=True)
class Request:
    """All that decides a run, but for the model's weights."""

    model: str
    fingerprint: str | None
    """Of the model that a configuration was written for, unless another one is asked for."""
    dtype: str
    concept: Subject
    method: Method
    training: Training | None
    before: tuple[Layer, ...]
    seed: int
    stop: StoppingRule | None


def read_config(path: Path) -> dict[str, Any]:
    """A run's `config.toml`, one written by hand, or a preset by its name.

    Raises:
        ExpungeError: unreadable, or a key that means nothing; the message names the nearest that does.
    """
    if _is_preset(path):
        return {name: table for name, table in read_preset(str(path)).items() if name in KEYS}
    if not path.exists() and path.name == str(path) and not path.suffix:
        read_preset(path.name)  # refuses it, with the nearest
    tables = config.read_toml(path)
    if "start" in tables:
        raise ExpungeError(f"a stage is repeated with its sequence: {path} is of one stage; give the config.toml of the run it lies in")
    for name, value in tables.items():
        if name not in KEYS:
            raise ExpungeError(f"a configuration has {', '.join(KEYS)}: {path} has {name!r}{nearest(name, KEYS)}; rename or remove it")
        if not isinstance(value, int if name == "seed" else list if name in TABLES else dict):
            wanted = "a whole number" if name == "seed" else "a list of tables" if name in TABLES else "a table"
            raise ExpungeError(f"in a configuration {name} is {wanted}: {path} has {value!r}; see a run's config.toml")
        keys = KEYS[name]
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, dict) and keys and (unknown := [key for key in table if key not in keys]):
                odd = unknown[0]
                raise ExpungeError(f"[{name}] has {', '.join(keys)}: {path} has {odd!r}{nearest(odd, keys)}; rename or remove it")
    return tables


def _is_preset(path: Path) -> bool:
    return str(path) in PRESETS and not path.is_file()


def method_in(path: Path) -> str:
    """The method that a configuration names."""
    name = read_config(path).get("method", {}).get("name")
    if not isinstance(name, str):
        raise ExpungeError(f"[method] has a name in a configuration: {path} has {name!r}; add one, or type it after `expunge unlearn`")
    return name


def vocabulary_named(name: str | None, model: str) -> Vocabulary:
    """A built-in vocabulary by name, one from a file, or else the one that goes with the model."""
    match name:
        case None:
            return defaults_of(model).vocabulary()
        case "canvas":
            return Vocabulary.canvas()
        case "general":
            return Vocabulary.general()
        case file:
            return Vocabulary.load(Path(file))


def settle(method: str, given: Mapping[str, Any]) -> Request:
    """Lays flags over the configuration that they name. Values that were not given are None or empty.

    Another method than the configuration's takes none of its settings, another target none of its words for the concept.

    Raises:
        ExpungeError: whatever is wrong with names, words and values.
    """
    tables = read_config(given["config"]) if given["config"] else {}
    model_table, method_table = tables.get("model", {}), tables.get("method", {})
    same = method_table.get("name") == method
    if given["config"] and _is_preset(given["config"]) and not same:
        own = method_table["name"]
        raise ExpungeError(
            f"a preset is of its own method: {given['config']} is of {own}, and {method} is asked for; leave one of them out"
        )
    cls = find_method(method)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    kept = {k: v for k, v in method_table.items() if k != "name"} if same else {}
    built = config.build(cls, kept | _given(given, names), method)
    training = _training(built, (tables.get("training", {}) if same else {}) | _given(given, [f.name for f in fields(Training)]))
    model = given["model"] or model_table.get("name") or CANVAS
    concept = concept_asked(tables.get("concept", {}), given, model)
    if given["anchor"] is not None and not built.needs & {"anchor", "anchor_pictures"}:
        raise ExpungeError(
            f"an anchor is for a method that maps the concept onto it: {method} reads none as it is set; leave --anchor out, or take ca, "
            "f-dmu, spm or uce"
        )
    return Request(
        model,
        None if given["model"] else model_table.get("fingerprint"),
        given["dtype"] or model_table.get("dtype", "fp32"),
        concept,
        built,
        training,
        tuple(_before(name) for name in given["before"] or ()) or tuple(map(Layer.of, tables.get("before", ()) if same else ())),
        tables.get("seed", 0) if given["seed"] is None else given["seed"],
        _stop(tables.get("stop"), given, training is not None),
    )


def _given(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name) is not None}


def _training(method: Method, given: Mapping[str, Any]) -> Training | None:
    if isinstance(method, Objective):
        return config.build(Training, config.settings(method.training) | dict(given), "training")
    if given:
        raise ExpungeError(f"a closed form is not trained: {method_name(method)} takes no {', '.join(given)}; leave [training] out")
    return None


def _before(given: str) -> Layer:
    """What `--before` names: a method with its defaults, or the one of a configuration or preset."""
    if ":" in given or given in METHODS:
        return Layer.of(given)
    tables = read_config(Path(given))
    if tables.get("before"):
        raise ExpungeError(f"--before names one method: {given} is of several itself; give the configuration with --config")
    return Layer.of({name: tables[name] for name in ("method", "training") if name in tables})


def _stop(table: Mapping[str, Any] | None, given: Mapping[str, Any], trained: bool) -> StoppingRule | None:
    """The rule that may end the run early: flags laid over the configuration's; a closed form takes none of the latter."""
    every, judge = given["stop_when_gone"], given["judge"]
    if every is None and (table is None or not trained):
        if judge:
            raise ExpungeError(f"a judge looks where a run may end early: --judge {judge} is given without --stop-when-gone; add it")
        return None
    if every == 0:
        return None
    kept = dict(table or {"rule": "gone"})
    if (rule := kept.pop("rule", None)) not in RULES:
        raise ExpungeError(f"[stop] has a rule, one of {', '.join(RULES)}: {rule!r} is none; rules of your own go with expunge.unlearn")
    return config.build(RULES[rule], kept | {k: v for k, v in (("every", every), ("judge", judge)) if v is not None}, rule)


def concept_asked(table: Mapping[str, Any], given: Mapping[str, Any], model: str) -> Subject:
    """A concept, or several where a further `--target` is no other name of the first."""
    vocabulary, entries = _vocabulary(table, given["vocabulary"], model), _entries(table)
    named = given["target"] or [e["target"] for e in entries]
    if not named:
        raise ExpungeError("a concept to remove is named: there is no --target; give one (see `expunge ls concepts`)")
    found = [_found(named[0], entries, vocabulary, given["kind"])]
    other_names = [_other_name(name, found[0]) for name in named[1:]]
    if len(named) == 1 or (given["target"] and all(other_names)):
        if given["sequential"] or given["reference"]:
            raise ExpungeError(f"stages are of several concepts: there is one, {found[0].target!r}; give another with --target")
        return _one(found[0], entries, [n for n in other_names if n], given["synonym"], given["anchor"])
    found += [_found(name, entries, vocabulary, given["kind"]) for name in named[1:]]
    if given["anchor"] is not None and len({c.kind for c in found}) > 1:
        raise ExpungeError(
            f"an anchor is of its concept's kind: --anchor {given['anchor']!r} is given for {', '.join(sorted({c.kind for c in found}))}; "
            "give each its own under [concept] in a configuration"
        )
    synonyms: dict[str, list[str]] = {}
    for synonym in given["synonym"] or ():
        owner = next((c for c in found if _other_name(synonym, c)), None)
        if owner is None:
            raise ExpungeError(
                f"of several concepts a synonym is one that the vocabulary knows: {synonym!r} is none of theirs; "
                "give it under [concept] in a configuration"
            )
        synonyms.setdefault(owner.target, []).append(synonym)
    concepts = [_one(c, entries, [], synonyms.get(c.target), given["anchor"]) for c in found]
    said = given["sequential"]
    together = table.get("together", "joint") if said is None else "sequential" if said else "joint"
    reference = given["reference"] or (table.get("reference", "original") if together == "sequential" else "original")
    return Several.of(concepts, together, reference)


def _entries(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a configuration says of each concept: `target` is a name or a list of names, `targets` a list of tables."""
    target, targets = table.get("target", []), table.get("targets", [])
    if isinstance(target, str) and not targets:
        return [table]
    listed = (
        targets or [{"target": name} for name in target] if isinstance(target, list) and isinstance(targets, list) else [targets or target]
    )
    for entry in listed:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("target"), str) or (target and targets):
            raise ExpungeError(
                f"[concept] has a target, a list of them, or a list of tables, targets: it has {entry!r}; name each one once"
            )
        if unknown := [key for key in entry if key not in ENTRY]:
            raise ExpungeError(
                f"an entry of targets has {', '.join(ENTRY)}: {unknown[0]!r} is none{nearest(unknown[0], ENTRY)}; rename or remove it"
            )
    return listed


def _told(entry: Mapping[str, Any]) -> Told:
    """Of an entry that may hold what is said of all of them beside."""
    return told({key: value for key, value in entry.items() if key in ENTRY})


def _found(name: str, entries: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, kind: str | None) -> Concept:
    said = next((_told(e).kind for e in entries if e["target"] == name), None)
    return Concept.find(name, vocabulary, kind=kind or said)


def _one(
    concept: Concept, entries: Sequence[Mapping[str, Any]], other_names: list[str], synonyms: list[str] | None, anchor: str | None
) -> Concept:
    """The concept with its other words: those given, else the configuration's."""
    kept = next((_told(e) for e in entries if e["target"] == concept.target), Told(concept.target))
    words = other_names + (synonyms or list(kept.names))
    words = [s for s in dict.fromkeys(words) if s != concept.target]
    anchor = kept.anchor if anchor is None else anchor
    return Concept.find(concept.target, concept.vocabulary, tuple(words), anchor, concept.kind)


def _vocabulary(table: Mapping[str, Any], file: str | None, model: str) -> Vocabulary:
    words = table.get("vocabulary")
    if file or words is None or isinstance(words, str):
        return vocabulary_named(file or words, model)
    if isinstance(words, Mapping):
        return Vocabulary.from_tables(words, "[concept.vocabulary]")
    raise ExpungeError(f"a vocabulary is a name, a file or a table for each kind: {words!r} is none; see `expunge show vocabulary`")


def _other_name(name: str, concept: Concept) -> str | None:
    """The name, where the vocabulary knows it as another one of the concept."""
    with suppress(ExpungeError):
        found = Concept.find(name, concept.vocabulary, kind=concept.kind).target
        return found if found in (concept.member.name, *concept.member.synonyms) else None
    return None
