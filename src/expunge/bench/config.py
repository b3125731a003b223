"""What a benchmark runs: one TOML file, read and checked whole before any work begins.

```toml
model = "canvas"                       # the rest of the top level: dtype, vocabulary, judge, metrics
seeds = [0, 1, 2]
concepts = ["neon", "ring"]            # reported; a table where more is to be said: {target = "ring", anchor = "disc"};
                                       # a list is several at once; {targets = ["neon", "ring"], together = "sequential"}
tuning = ["stripes", "crescent"]       # for `--search` alone, never reported
protocol = {target_seeds = 3}          # as of `expunge show protocol`; the seed of its noise is the unit's own

[[methods]]
name = "mim-mu"                        # beside label and synonyms, its settings as in a run's config.toml
label = "MiM-MU, synonym given"
synonyms = true                        # the concept's other names are given as targets too
training = {steps = 80}
seeds = [0]                            # of the suite's, those that it is run with; default all
before = ["uce"]                       # methods that go first: by name, or as tables {method = {name = ...}, training = {...}}

[[methods]]
name = "retrain"                       # the canvas trained anew as if the concept had never been: a landmark, an hour each
concepts = [["neon", "ring"]]          # in the place of the suite's: here one network without both

[audit]                                # left out: nothing is attacked
budget = "quick"                       # as of `expunge audit`: quick, standard, full, or a file
control = "runs/without-both"          # a run that never saw any of the concepts; "none"; left out: what the canvas brings

[search]                               # the same budget for every method
trials = 12
```

A suite may begin from another: `like = "canvas"`, or a file, has whatever the suite does not say from there, and of its methods all, or
those of `labels = [...]`, before the suite's own.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from expunge import config
from expunge.bench.suite import Attacking, Entry, Search, Suite
from expunge.canvas import CANVAS
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.tables import VOCABULARIES, read_entry
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation.metrics import refuse_unknown
from expunge.evaluation.protocol import Protocol
from expunge.methods.config import Layer
from expunge.models.defaults import defaults_of
from expunge.names import NO_CONTROL, RETRAINED, nearest
from expunge.runs.run import Run

KEYS = (
    "like", "labels", "model", "dtype", "vocabulary", "judge", "metrics", "seeds", "concepts", "tuning", "protocol", "sampler", "methods",
    "audit", "search",
)  # fmt: skip
OWN = ("name", "label", "synonyms", "seeds", "concepts", "training", "before", "space")
"""What an entry of `methods` holds besides the method's settings."""
TARGET = ("target", "anchor", "kind")
TARGETS = ("targets", "together", "reference")


def builtin() -> list[str]:
    """The suites that come with the package."""
    files = resources.files("expunge.bench.protocols").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_suite(name: str | Path, allow_code: bool = False) -> Suite:
    """A suite from a TOML file, or a built-in one by name.

    Args:
        allow_code: whether the file, and those that it names, may name methods and attacks outside the package, which are imported.
            Choose it for files that you trust.

    Raises:
        ExpungeError: no such file or name; unknown keys, methods, settings, concepts, metrics (each with the nearest valid one);
            a concept that is both tuned on and reported; code outside the package.
    """
    return make_suite(_read(name), Path(name).stem, allow_code)


def _read(name: str | Path) -> dict[str, Any]:
    if str(name) in builtin() and not Path(name).exists():
        with resources.as_file(resources.files("expunge.bench.protocols") / f"{name}.toml") as file:
            return config.read_toml(file)
    if not Path(name).exists() and not str(name).endswith(".toml"):
        known = builtin()
        raise ExpungeError(f"a suite is a TOML file or one of {', '.join(known)}: {str(name)!r} is neither{nearest(str(name), known)}")
    return config.read_toml(Path(name), "see docs/how-to/run-a-suite.md")


def make_suite(table: Mapping[str, Any], name: str, allow_code: bool = False) -> Suite:
    """A suite from parsed TOML; see `read_suite`."""
    table = _whole(table, name)
    for key in ("methods", "concepts"):
        if not isinstance(table.get(key), list) or not table[key]:
            raise ExpungeError(f"a suite has {key}: {name!r} has {table.get(key)!r}; see docs/how-to/run-a-suite.md")
    seeds, model = table.get("seeds", [0]), str(table.get("model", CANVAS))
    _seeds(seeds, name)
    protocol = {k: v for k, v in config.settings(config.build(Protocol, table.get("protocol", {}), "protocol")).items() if k != "seed"}
    if "seed" in table.get("protocol", {}):
        raise ExpungeError("pictures start from the noise of the unit's own seed: [protocol] has a seed; remove it and use seeds = [...]")
    metrics = table.get("metrics")
    refuse_unknown(metrics or ())
    vocabulary = _vocabulary(table.get("vocabulary"), model)
    concepts = tuple(_subject(c, vocabulary) for c in table["concepts"])
    tuning = tuple(_concept(c, vocabulary) for c in table.get("tuning", []))
    methods = _entries(table["methods"], vocabulary, allow_code)
    reported = (*concepts, *(c for e in methods for c in e.concepts or ()))
    _apart(reported, tuning, name)
    for group in (concepts, *(e.concepts or () for e in methods)):
        _once(group, name)
    suite = Suite(
        name=name,
        methods=methods,
        concepts=concepts,
        tuning=tuning,
        seeds=tuple(seeds),
        model=model,
        dtype=str(table.get("dtype", "fp32")),
        judge=table.get("judge"),
        metrics=None if metrics is None else tuple(metrics),
        protocol=protocol,
        sampler=_sampler(table.get("sampler", {})),
        search=config.build(Search, table.get("search", {}), "search"),
        audit=_audit(table["audit"], reported, allow_code) if "audit" in table else None,
    )
    for entry in suite.methods:
        if odd := [s for s in entry.seeds or () if s not in seeds]:
            known = ", ".join(map(str, seeds))
            raise ExpungeError(f"an entry's seeds are some of the suite's: {entry.label!r} asks for {odd[0]}, {name!r} has {known}")
    if any(e.name == RETRAINED for e in suite.methods) and not defaults_of(model).has_real_images:
        raise ExpungeError(f"the canvas alone is trained anew: {name!r} is of {model}; leave {RETRAINED} out")
    first = {u.id: u for u in reversed(suite.units)}
    if twice := next((u for u in suite.units if first[u.id] is not u), None):
        raise ExpungeError(f"every unit of a suite is another run: {twice.name} stands in {name!r} twice; remove one")
    return suite


def _whole(table: Mapping[str, Any], name: str, within: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """A suite's table with what it has from another: whatever it does not say, and those of the other's methods that it names."""
    _known(table, KEYS, f"the suite {name!r}")
    if "like" not in table:
        if "labels" in table:
            raise ExpungeError(f"labels choose among the methods of another suite: {name!r} is like none; give like, or remove labels")
        return table
    other = str(table["like"])
    if other in within:
        raise ExpungeError(f"suites are like others, and at last like none: {' is like '.join((*within, other))}; remove one like")
    base = _whole(_read(other), other, (*within, other))
    known, labels = {_label(m): m for m in base.get("methods", ())}, table.get("labels")
    if labels is not None and not isinstance(labels, list):
        raise ExpungeError(f'labels are a list: {labels!r} is none; for example labels = ["MiM-MU", "UCE"]')
    if odd := [label for label in labels or () if label not in known]:
        raise ExpungeError(f"labels are of methods of {other!r}: {odd[0]!r} is none{nearest(str(odd[0]), list(known))}")
    methods = [*(known.values() if labels is None else (known[label] for label in labels)), *table.get("methods", ())]
    return {**base, **{k: v for k, v in table.items() if k not in ("like", "labels")}, "methods": methods}


def _label(entry: Any) -> str:
    """Of an entry of methods as TOML has it."""
    return str(entry.get("label", entry.get("name"))) if isinstance(entry, Mapping) else ""


def _seeds(given: Any, what: str) -> list[int]:
    if not isinstance(given, list) or not given or not all(type(s) is int for s in given) or len(set(given)) < len(given):
        raise ExpungeError(f"seeds are different whole numbers: {what!r} has {given!r}; for example seeds = [0, 1, 2]")
    return given


def _entries(tables: Sequence[Any], vocabulary: Vocabulary, allow_code: bool) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for table in tables:
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ExpungeError(f'an entry of methods has a name: {table!r} has none; for example [[methods]] name = "uce"')
        given, label = table.get("training", {}), str(table.get("label", table["name"]))
        if not isinstance(table.get("synonyms", False), bool):
            raise ExpungeError(
                f"synonyms says whether a concept's other names are given as targets, true or false: {label!r} has {table['synonyms']!r}"
            )
        seeds = tuple(_seeds(table["seeds"], label)) if "seeds" in table else None
        concepts = tuple(_subject(c, vocabulary) for c in table["concepts"]) if "concepts" in table else None
        settings = {k: v for k, v in table.items() if k not in OWN}
        if table["name"] == RETRAINED:
            entries.append(_retraining(label, settings, given, seeds, concepts))
            continue
        layer = Layer.make(table["name"], settings, given, allow_code)
        if "/" in label:
            raise ExpungeError(f"a label has no slash, which separates the parts of a unit's name: {label!r} has one; choose another")
        if any(label == e.label for e in entries):
            raise ExpungeError(f"a label names one entry of methods: {label!r} stands there twice; give one of them another label")
        own = config.settings(layer.method), config.settings(layer.training) if layer.training else {}, table.get("space", {})
        before = tuple(Layer.of(earlier, allow_code).tables for earlier in _listed(table.get("before", []), label))
        entries.append(Entry(table["name"], label, bool(table.get("synonyms", False)), *own, seeds, concepts, before))
    return tuple(entries)


def _listed(before: Any, label: str) -> list[Any]:
    if not isinstance(before, list) or not all(isinstance(b, str | Mapping) for b in before):
        raise ExpungeError(f'before is a list of methods, by name or as tables: {label!r} has {before!r}; for example before = ["uce"]')
    return before


def _retraining(
    label: str,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
    seeds: tuple[int, ...] | None,
    concepts: tuple[Subject, ...] | None,
) -> Entry:
    from expunge.canvas.training.retrain import Retraining

    if settings:
        raise ExpungeError(f"retraining has no settings but those of its training: {', '.join(settings)} given; put them under training")
    return Entry(RETRAINED, label, False, {}, config.settings(config.build(Retraining, training, RETRAINED)), {}, seeds, concepts)


def _subject(given: Any, vocabulary: Vocabulary) -> Subject:
    table: Any = {"targets": given} if isinstance(given, list) else given
    if not isinstance(table, Mapping) or "targets" not in table:
        return _concept(given, vocabulary)
    _known(table, TARGETS, "an entry of several concepts")
    if not isinstance(table["targets"], list):
        raise ExpungeError(f'targets are a list: {table["targets"]!r} is none; for example targets = ["neon", "ring"]')
    parts = [_concept(one, vocabulary) for one in table["targets"]]
    return Several.of(parts, table.get("together", "joint"), table.get("reference", "original"))


def _concept(given: Any, vocabulary: Vocabulary) -> Concept:
    table = {"target": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or not isinstance(table.get("target"), str):
        raise ExpungeError(f"a concept is a name or a table with a target: {given!r} is neither; see `expunge ls concepts`")
    _known(table, TARGET, "a concept")
    return read_entry(table).find(vocabulary)


def _once(reported: Sequence[Subject], name: str) -> None:
    """A concept under two of its names would count twice."""
    seen: dict[tuple[str, str], str] = {}
    for concept in reported:
        if isinstance(concept, Concept):
            if concept.identity in seen:
                other = seen[concept.identity]
                raise ExpungeError(f"a suite reports a concept once: {name!r} has {other!r} and {concept.target!r}; remove one")
            seen[concept.identity] = concept.target


def _apart(reported: Sequence[Subject], tuning: Sequence[Concept], name: str) -> None:
    """Under whatever names: a synonym of a reported concept is that concept."""
    known = {c.identity for several in reported for c in several.parts}
    both = [t.target for t in tuning if t.identity in known]
    if both:
        raise ExpungeError(
            f"concepts are tuned on or reported, never both: {name!r} has {', '.join(both)} in concepts and tuning; remove one of the two"
        )


def _audit(given: Any, concepts: Sequence[Subject], allow_code: bool) -> dict[str, Any]:
    """What every unit is attacked with, read whole, so that a unit needs no file but the control's."""
    from expunge.audits.budget import read_budget
    from expunge.audits.setup import refuse_control

    asked = config.build(Attacking, given, "audit")
    budget, named = read_budget(asked.budget, allow_code), asked.control not in ("", NO_CONTROL)
    for concept in concepts:
        budget.refuse_naming(concept.parts)
        if named:
            refuse_control(Run(Path(asked.control)), concept.parts)
    control = str(Path(asked.control).resolve()) if named else asked.control
    return {"name": budget.name, "budget": json.loads(json.dumps(budget.table)), "control": control}


def _sampler(given: Mapping[str, Any]) -> dict[str, Any]:
    from expunge.models.sampling import Sampler

    config.build(Sampler, given, "sampler")
    return dict(given)


def _vocabulary(given: Any, model: str) -> Vocabulary:
    if given is None:
        return defaults_of(model).vocabulary()
    if not isinstance(given, str):
        raise ExpungeError(f"a suite's vocabulary is a name or a file: {given!r} is neither; see `expunge show vocabulary`")
    return VOCABULARIES[given]() if given in VOCABULARIES else Vocabulary.load(Path(given))


def _known(table: Mapping[str, Any], keys: Collection[str], what: str) -> None:
    for key in table:
        if key not in keys:
            raise ExpungeError(f"{what} has the keys {', '.join(keys)}: {key!r} is none{nearest(key, keys)}; rename or remove it")
