"""What a person asks `unlearn` for: flags laid over a configuration, and checked as far as that goes without the model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from expunge import config
from expunge.cli.options import CANVAS
from expunge.cli.screen import nearest
from expunge.concept import Concept
from expunge.objective import Method, Objective, Training
from expunge.types import ExpungeError
from expunge.vocabulary import Vocabulary

KEYS: dict[str, tuple[str, ...]] = {
    "model": ("name", "fingerprint", "dtype"),
    "seed": (),
    "concept": ("target", "kind", "synonyms", "anchor", "vocabulary"),
    "method": (),
    "training": (),
}
"""What a configuration may hold. The settings in `method` and `training` are checked where they are read."""


@dataclass(frozen=True)
class Request:
    """All that decides a run, but for the model's weights."""

    model: str
    fingerprint: str | None
    """Of the model that a configuration was written for, unless another one is asked for."""
    dtype: str
    concept: Concept
    method: Method
    training: Training | None
    seed: int


def read_config(path: Path) -> dict[str, Any]:
    """A run's `config.toml`, or one written by hand.

    Raises:
        ExpungeError: unreadable, or a key that means nothing; the message names the nearest that does.
    """
    tables = config.read_toml(path)
    for name, value in tables.items():
        if name not in KEYS:
            raise ExpungeError(f"a configuration has {', '.join(KEYS)}: {path} has {name!r}{nearest(name, KEYS)}; rename or remove it")
        if not isinstance(value, int if name == "seed" else dict):
            wanted = "a whole number" if name == "seed" else "a table"
            raise ExpungeError(f"in a configuration {name} is {wanted}: {path} has {value!r}; see a run's config.toml")
        keys = KEYS[name]
        if isinstance(value, dict) and keys and (unknown := [key for key in value if key not in keys]):
            raise ExpungeError(f"[{name}] has {', '.join(keys)}: {path} has {unknown[0]!r}{nearest(unknown[0], keys)}; rename or remove it")
    return tables


def method_in(path: Path) -> str:
    """The method that a configuration names."""
    name = read_config(path).get("method", {}).get("name")
    if not isinstance(name, str):
        raise ExpungeError(f"[method] has a name in a configuration: {path} has {name!r}; add one, or type it after `expunge unlearn`")
    return name


def vocabulary_named(name: str | None, model: str) -> Vocabulary:
    """A built-in vocabulary by name, one from a file, or else the one that goes with the model."""
    match name or (CANVAS if model == CANVAS else "general"):
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
    cls = config.find_method(method)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    kept = {k: v for k, v in method_table.items() if k != "name"} if same else {}
    built = config.build(cls, kept | _given(given, names), method)
    training = _training(built, (tables.get("training", {}) if same else {}) | _given(given, [f.name for f in fields(Training)]))
    model = given["model"] or model_table.get("name") or CANVAS
    return Request(
        model,
        None if given["model"] else model_table.get("fingerprint"),
        given["dtype"] or model_table.get("dtype", "fp32"),
        _concept(tables.get("concept", {}), given, model),
        built,
        training,
        tables.get("seed", 0) if given["seed"] is None else given["seed"],
    )


def _given(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if given.get(name) is not None}


def _training(method: Method, given: Mapping[str, Any]) -> Training | None:
    if isinstance(method, Objective):
        return config.build(Training, config.settings(method.training) | dict(given), "training")
    if given:
        raise ExpungeError(f"a closed form is not trained: {config.method_name(method)} takes no {', '.join(given)}; leave [training] out")
    return None


def _concept(table: Mapping[str, Any], given: Mapping[str, Any], model: str) -> Concept:
    vocabulary = _vocabulary(table, given["vocabulary"], model)
    main, *more = given["target"] or [table.get("target")]
    if not isinstance(main, str):
        raise ExpungeError("a concept to remove is named: there is no --target; give one (see `expunge ls concepts`)")
    kind, anchor = given["kind"], given["anchor"]
    concept = Concept.find(main, vocabulary, kind=kind or (table.get("kind") if main == table.get("target") else None))
    kept = table if concept.target == table.get("target") else {}
    synonyms = [_other_name(name, concept) for name in more] + (given["synonym"] or list(kept.get("synonyms", ())))
    synonyms = [s for s in dict.fromkeys(synonyms) if s != concept.target]
    return Concept.find(concept.target, vocabulary, tuple(synonyms), kept.get("anchor") if anchor is None else anchor, concept.kind)


def _vocabulary(table: Mapping[str, Any], file: str | None, model: str) -> Vocabulary:
    words = table.get("vocabulary")
    if isinstance(words, Mapping) and not file:
        return Vocabulary.from_tables(words, "[concept.vocabulary]")
    return vocabulary_named(file or words, model)


def _other_name(name: str, concept: Concept) -> str:
    """A further `--target`, which is another name of the first."""
    found = Concept.find(name, concept.vocabulary, kind=concept.kind).target
    known = (concept.member.name, *concept.member.synonyms)
    if found not in known:
        raise ExpungeError(
            f"a run removes one concept: {name!r} is not known as another name of {concept.target!r}; "
            f"remove them one after another, or say that it is one with --synonym {name!r}"
        )
    return found
