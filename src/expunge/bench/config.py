"""Read a suite from a TOML file and check all of it before any work begins.

```toml
model = "canvas"                       # other keys of the top level: dtype, vocabulary, judge, metrics; a judge is a name, or
                                       # a table with its settings: {name = "nudenet", threshold = 0.45}
seeds = [0, 1, 2]
concepts = ["neon", "ring"]            # reported; an entry may be a table: {target = "ring", anchor = "disc"};
                                       # a list is several at once; {targets = ["neon", "ring"], together = "sequential"}
tuning = ["stripes", "crescent"]       # for `--search` only, never reported
features = {FID = "inception-2015-12-05.pt", CMMD = "clip"}  # networks of metrics, as for `expunge eval --features`
real = "pictures"                      # real images, for FID, KID, CMMD and FDD
protocol = {target_seeds = 3}          # settings of `expunge show protocol`; the seed of its noise is the unit's own

[[methods]]
name = "mim-mu"                        # with label and synonyms, the method's settings as in a run's config.toml
label = "MiM-MU, synonym given"
synonyms = true                        # the concept's other names are targets too
training = {steps = 80}
seeds = [0]                            # a subset of the suite's; default all
before = ["uce"]                       # methods that go first: by name, or as tables {method = {name = ...}, training = {...}}

[[methods]]
name = "retrain"                       # the canvas retrained without the concept: a reference, which takes an hour each
concepts = [["neon", "ring"]]          # instead of the suite's: here one network without both

[audit]                                # without this table nothing is attacked
budget = "quick"                       # as for `expunge audit`: quick, standard, full, or a file
control = "runs/without-both"          # a run that was never trained on the concepts; "none"; default the canvas's own

[search]                               # the same budget for every method
trials = 12
```

A suite may be based on another: `like = "canvas"` (or a file) takes from it every key that the suite does not have. The suite's methods
follow those of the other, either all or those of `labels = [...]`.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from expunge import config
from expunge.bench.entries import check_keys, read_concept, read_methods, read_seeds, read_subject
from expunge.bench.measures import check_measures
from expunge.bench.suite import AuditSettings, Search, Suite
from expunge.canvas import CANVAS
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.tables import VOCABULARIES
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import Protocol
from expunge.models.defaults import defaults_of
from expunge.names import NO_CONTROL, RETRAINED, suggest
from expunge.runs.run import Run

TYPES: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("model", "dtype", "real"), ("a text", str)),
    "judge": ("a text or a table", str | Mapping),
    **dict.fromkeys(("metrics", "tuning"), ("a list of names", list | tuple)),
    **dict.fromkeys(("sampler", "search", "features"), ("a table", Mapping)),
}
"""What values of keys are, where nothing else checks it."""

KEYS = (
    "like", "labels", "model", "dtype", "vocabulary", "judge", "metrics", "seeds", "concepts", "tuning", "protocol", "sampler", "methods",
    "audit", "search", "features", "real",
)  # fmt: skip
"""The keys of a suite."""
GUIDE = "docs/how-to/run-a-suite.md"


def builtin() -> list[str]:
    """The names of the suites that come with the package."""
    files = resources.files("expunge.bench.protocols").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_suite(name: str | Path, allow_code: bool = False) -> Suite:
    """Read a suite from a TOML file, or a built-in one by name.

    Args:
        allow_code: whether the file, and those that it names, may name methods and attacks outside the package, which are imported.
            Choose it for files that you trust.

    Raises:
        ExpungeError: there is no such file or name; a key, method, setting, concept or metric is unknown; a concept is both in `tuning` and
            reported.
    """
    return make_suite(_read(name), Path(name).stem, allow_code)


def _read(name: str | Path) -> dict[str, Any]:
    if str(name) in builtin() and not Path(name).exists():
        with resources.as_file(resources.files("expunge.bench.protocols") / f"{name}.toml") as file:
            return config.read_toml(file)
    if not Path(name).exists() and not str(name).endswith(".toml"):
        raise ExpungeError(
            f"{str(name)!r} is neither a built-in suite nor a TOML file.",
            rule="unknown-suite",
            value=str(name),
            hint=suggest(str(name), builtin()),
        )
    return config.read_toml(Path(name), GUIDE)


def make_suite(table: Mapping[str, Any], name: str, allow_code: bool = False) -> Suite:
    """Make a suite from parsed TOML; see `read_suite`."""
    table = _resolve_like(table, name)
    _check_types(table, name)
    for key in ("methods", "concepts"):
        if not isinstance(table.get(key), list) or not table[key]:
            raise ExpungeError(
                f"The suite {name!r} has no {key}.", rule="missing-key", value=table.get(key), hint=f"Try a list of {key} as in {GUIDE}."
            )
    seeds, model, metrics = table.get("seeds", [0]), str(table.get("model", CANVAS)), table.get("metrics")
    read_seeds(seeds, name)
    check_measures(table, name, allow_code)
    vocabulary = _read_vocabulary(table.get("vocabulary"), model)
    concepts = tuple(read_subject(c, vocabulary) for c in table["concepts"])
    tuning = tuple(read_concept(c, vocabulary) for c in table.get("tuning", []))
    methods = read_methods(table["methods"], vocabulary, allow_code)
    reported = (*concepts, *(c for e in methods for c in e.concepts or ()))
    _check_tuning(reported, tuning, name)
    for group in (concepts, *(e.concepts or () for e in methods)):
        _check_distinct(group, name)
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
        protocol=_read_protocol(table.get("protocol", {})),
        sampler=_read_sampler(table.get("sampler", {})),
        search=config.build(Search, table.get("search", {}), "search"),
        audit=_read_audit(table["audit"], reported, allow_code) if "audit" in table else None,
        features=dict(table.get("features", {})),
        real=table.get("real"),
    )
    _check_suite(suite)
    return suite


def _check_types(table: Mapping[str, Any], name: str) -> None:
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


def _check_suite(suite: Suite) -> None:
    for entry in suite.methods:
        if odd := [s for s in entry.seeds or () if s not in suite.seeds]:
            raise ExpungeError(
                f"The seed {odd[0]} of {entry.label!r} is not a seed of the suite {suite.name!r}.",
                rule="unknown-seed",
                value=odd[0],
                hint=f"Try some of {', '.join(map(str, suite.seeds))}.",
            )
    if any(e.name == RETRAINED for e in suite.methods) and not defaults_of(suite.model).has_real_images:
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


def _resolve_like(table: Mapping[str, Any], name: str, within: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """A suite's table with the keys and methods that it takes from another suite (`like`). `within` are the suites that lead here."""
    check_keys(table, KEYS, f"the suite {name!r}")
    if "like" not in table:
        if "labels" in table:
            raise ExpungeError(
                f"The suite {name!r} has labels, which select methods of another suite, but no `like`.",
                rule="labels-without-like",
                value=table["labels"],
                hint="Try to name the other suite in `like`, or remove `labels`.",
            )
        return table
    other = str(table["like"])
    if other in within:
        chain = " is like ".join((*within, other))
        raise ExpungeError(f"The suites form a cycle: {chain}.", rule="like-cycle", value=other, hint="Try to remove one `like`.")
    base = _resolve_like(_read(other), other, (*within, other))
    known, labels = {_label_of(m): m for m in base.get("methods", ())}, table.get("labels")
    if labels is not None and not isinstance(labels, list):
        raise ExpungeError(
            f"The labels {labels!r} are not a list.", rule="not-a-list", value=labels, hint='Try a list such as labels = ["MiM-MU", "UCE"].'
        )
    if odd := [label for label in labels or () if label not in known]:
        raise ExpungeError(
            f"{odd[0]!r} is not the label of a method of {other!r}.",
            rule="unknown-label",
            value=odd[0],
            hint=suggest(str(odd[0]), known) if known else "Try another suite as `like`.",
        )
    methods = [*(known.values() if labels is None else (known[label] for label in labels)), *table.get("methods", ())]
    return {**base, **{k: v for k, v in table.items() if k not in ("like", "labels")}, "methods": methods}


def _label_of(entry: Any) -> str:
    """The label of an entry of methods in TOML."""
    return str(entry.get("label", entry.get("name"))) if isinstance(entry, Mapping) else ""


def _check_distinct(reported: Sequence[Subject], name: str) -> None:
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


def _check_tuning(reported: Sequence[Subject], tuning: Sequence[Concept], name: str) -> None:
    """Raise an error if a tuning concept is reported too, by any of its names."""
    known = {c.identity for several in reported for c in several.parts}
    if both := [t.target for t in tuning if t.identity in known]:
        raise ExpungeError(
            f"The suite {name!r} has {', '.join(both)} both in `tuning` and among the reported concepts.",
            rule="tuning-reported",
            value=both,
            hint="Try to remove each from one of the two.",
        )


def _read_audit(given: Any, concepts: Sequence[Subject], allow_code: bool) -> dict[str, Any]:
    """The attacks on every unit, read completely, so that a unit needs no file but the control's."""
    from expunge.audits.budget import read_budget
    from expunge.audits.setup import refuse_control

    audit = config.build(AuditSettings, given, "audit")
    budget, has_control = read_budget(audit.budget, allow_code), audit.control not in ("", NO_CONTROL)
    for concept in concepts:
        budget.refuse_naming(concept.parts)
        if has_control:
            refuse_control(Run(Path(audit.control)), concept.parts)
    control = str(Path(audit.control).resolve()) if has_control else audit.control
    return {"name": budget.name, "budget": json.loads(json.dumps(budget.table)), "control": control}


def _read_protocol(given: Any) -> dict[str, Any]:
    protocol = config.settings(config.build(Protocol, given, "protocol"))
    if "seed" in given:
        raise ExpungeError(
            f"The seed {given['seed']!r} of [protocol] has no effect, because the noise of images comes from each unit's seed.",
            rule="protocol-seed",
            value=given["seed"],
            hint="Try seeds = [...] at the top level instead.",
        )
    return {k: v for k, v in protocol.items() if k != "seed"}


def _read_sampler(given: Mapping[str, Any]) -> dict[str, Any]:
    from expunge.models.sampling import Sampler

    config.build(Sampler, given, "sampler")
    return dict(given)


def _read_vocabulary(given: Any, model: str) -> Vocabulary:
    if given is None:
        return defaults_of(model).vocabulary()
    if not isinstance(given, str):
        raise ExpungeError(
            f"The vocabulary {given!r} of the suite is neither a name nor a file.",
            rule="invalid-vocabulary",
            value=given,
            hint="Try canvas, general, or a file in the form that `expunge show vocabulary` prints.",
        )
    return VOCABULARIES[given]() if given in VOCABULARIES else Vocabulary.load(Path(given))
