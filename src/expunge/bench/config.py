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
preset = "uce-published"               # the settings of a preset, where the entry has none of its own

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
from pathlib import Path
from typing import Any

from expunge import config
from expunge.bench.checks import GUIDE, check_distinct, check_named, check_suite, check_tuning, check_types
from expunge.bench.entries import check_keys, read_concept, read_methods, read_seeds, read_subject
from expunge.bench.measures import check_measures
from expunge.bench.published import builtin, read_about, read_builtin, read_data, read_reported, with_files, with_networks
from expunge.bench.suite import AuditSettings, Search, Suite
from expunge.canvas import CANVAS
from expunge.concepts.groups import Subject
from expunge.concepts.tables import VOCABULARIES
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.evaluation.prompt_lists import refuse_unknown as refuse_unlisted
from expunge.evaluation.protocol import Protocol
from expunge.models.defaults import defaults_of
from expunge.names import NO_CONTROL, suggest
from expunge.runs.run import Run

KEYS = (
    "like", "labels", "model", "dtype", "vocabulary", "judge", "judges", "metrics", "seeds", "concepts", "tuning", "protocol", "sampler",
    "methods", "audit", "search", "about", "data", "reported", "features", "real",
)  # fmt: skip
"""The keys of a suite."""


def read_suite(name: str | Path, allow_code: bool = False, given: Mapping[str, Any] | None = None) -> Suite:
    """Read a suite from a TOML file, or a built-in one by name.

    Args:
        allow_code: whether the file, and those that it names, may name methods and attacks outside the package, which are imported.
            Choose it for files that you trust.
        given: `model` and `judge` in the place of the file's, and by `data` the file of each entry of data.

    Raises:
        ExpungeError: there is no such file or name; a key, method, setting, concept or metric is unknown; a concept is both in `tuning` and
            reported.
    """
    return make_suite(_read(name), Path(name).stem, allow_code, given)


def _read(name: str | Path) -> dict[str, Any]:
    if str(name) in builtin() and not Path(name).exists():
        return read_builtin(str(name))
    if not Path(name).exists() and not str(name).endswith(".toml"):
        raise ExpungeError(
            f"{str(name)!r} is neither a built-in suite nor a TOML file.",
            rule="unknown-suite",
            value=str(name),
            hint=suggest(str(name), builtin()),
        )
    return config.read_toml(Path(name), GUIDE)


def make_suite(table: Mapping[str, Any], name: str, allow_code: bool = False, given: Mapping[str, Any] | None = None) -> Suite:
    """Make a suite from parsed TOML; see `read_suite`."""
    table = _resolve_like(table, name)
    table = {**table, **{key: value for key, value in (given or {}).items() if key != "data"}}
    check_types(table, name)
    for key in ("methods", "concepts"):
        if not isinstance(table.get(key), list) or not table[key]:
            raise ExpungeError(
                f"The suite {name!r} has no {key}.", rule="missing-key", value=table.get(key), hint=f"Try a list of {key} as in {GUIDE}."
            )
    about = read_about(table["about"]) if "about" in table else None
    data = read_data(with_files(table.get("data", {}), (given or {}).get("data", {})), name)
    table = with_networks(table, data)
    # A protocol that is not of the canvas names no model: it must be given.
    seeds, model, metrics = table.get("seeds", [0]), str(table.get("model", "" if about and about.model else CANVAS)), table.get("metrics")
    read_seeds(seeds, name)
    check_measures(table, name, allow_code, is_typed="judge" in (given or {}))
    vocabulary = _read_vocabulary(table.get("vocabulary"), model)
    concepts = tuple(read_subject(c, vocabulary) for c in table["concepts"])
    tuning = tuple(read_concept(c, vocabulary) for c in table.get("tuning", []))
    methods = read_methods(table["methods"], vocabulary, allow_code)
    reported = (*concepts, *(c for e in methods for c in e.concepts or ()))
    check_tuning(reported, tuning, name)
    for group in (concepts, *(e.concepts or () for e in methods)):
        check_distinct(group, name)
    named = [("judges", target) for target in table.get("judges", {})]
    named += [(f"data.{key}", target) for key, entry in data.items() for target in entry.concepts]
    check_named(named, vocabulary, (*reported, *tuning), name)
    for entry in data.values():
        if entry.kind == "prompts":
            refuse_unlisted(entry.metrics)
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
        judges=dict(table.get("judges", {})),
        about=about,
        data=data,
        reported=read_reported(table.get("reported", [])),
    )
    check_suite(suite)
    return suite


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
    merged = {**base, **{k: v for k, v in table.items() if k not in ("like", "labels")}, "methods": methods}
    if isinstance(base.get("data"), Mapping) and isinstance(table.get("data"), Mapping):  # an entry takes what it does not have
        merged["data"] = base["data"] | {name: {**base["data"].get(name, {}), **entry} for name, entry in table["data"].items()}
    return merged


def _label_of(entry: Any) -> str:
    """The label of an entry of methods in TOML."""
    return str(entry.get("label", entry.get("preset", entry.get("name")))) if isinstance(entry, Mapping) else ""


def _read_audit(given: Any, concepts: Sequence[Subject], allow_code: bool) -> dict[str, Any]:
    """The attacks on every unit, read completely, so that a unit needs no file but the control's."""
    from expunge.audits.budget import make_budget, read_budget
    from expunge.audits.setup import refuse_control

    audit = config.build(AuditSettings, given, "audit")
    asked = audit.budget
    budget = read_budget(asked, allow_code) if isinstance(asked, str) else make_budget(asked, "of the suite", allow_code)
    has_control = audit.control not in ("", NO_CONTROL)
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
        return defaults_of(model).vocabulary() if model else Vocabulary.general()
    if isinstance(given, Mapping):
        return Vocabulary.from_tables(given, "of the suite")
    if not isinstance(given, str):
        raise ExpungeError(
            f"The vocabulary {given!r} of the suite is neither a name, nor a file, nor a table.",
            rule="invalid-vocabulary",
            value=given,
            hint="Try canvas, general, or a file in the form that `expunge show vocabulary` prints.",
        )
    return VOCABULARIES[given]() if given in VOCABULARIES else Vocabulary.load(Path(given))
