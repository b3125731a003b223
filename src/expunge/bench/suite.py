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

[search]                               # the same budget for every method
trials = 12
```
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from expunge import config
from expunge.cache import digest
from expunge.concept import Concept
from expunge.denoiser.stable_diffusion import CANVAS
from expunge.metrics import Evidence, measure
from expunge.objective import Objective, Training
from expunge.plan import VOCABULARIES, called, concept_table, version_of
from expunge.render import Protocol
from expunge.several import Several, Subject
from expunge.types import ExpungeError
from expunge.vocabulary import Vocabulary

KEYS = (
    "model", "dtype", "vocabulary", "judge", "metrics", "seeds", "concepts", "tuning", "protocol", "sampler", "methods", "search",
)  # fmt: skip
OWN = ("name", "label", "synonyms", "training", "space")
"""What an entry of `methods` holds besides the method's settings."""
TARGET = ("target", "anchor", "kind")
TARGETS = ("targets", "together", "reference")


@dataclass(frozen=True)
class Search:
    """How settings are searched for, the same for every method."""

    trials: Annotated[int, Ge(1)] = 12
    """Settings tried for each method, its own defaults first. More finds better ones and takes longer in proportion."""
    limit: Annotated[float, Ge(0), Le(1)] = 0.95
    """Every retained share is to stay above this part of the untouched model's. Larger allows less damage."""
    pareto: bool = False
    """Look for the front between forgetting and retention, without a limit."""
    seed: int = 999
    """Of the search, and of the pictures that it looks at: another than those reported, or it would fit their noise."""
    space: Mapping[str, Any] = field(default_factory=dict)
    """Setting: `[low, high]`, `[low, high, "log"]` or, for words, the choices. Methods without a setting leave it out."""


@dataclass(frozen=True)
class Entry:
    """A method with its settings, under the label that tables give it."""

    name: str
    label: str
    synonyms: bool
    settings: Mapping[str, Any]
    """All of them, defaults included: a default that changes is another run."""
    training: Mapping[str, Any]
    """Empty for closed forms."""
    space: Mapping[str, Any]
    """For the search, over that of all methods."""


@dataclass(frozen=True)
class Unit:
    """One piece of work: a concept removed by a method with a seed, and measured. Plain JSON, so that it goes to any machine."""

    id: str
    """The folder's name: a hash of all that decides the run, not of what is measured of it."""
    label: str
    method: str
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    concept: Mapping[str, Any]
    """As of a run's `config.toml`."""
    seed: int
    model: str
    dtype: str
    judge: str | None
    metrics: tuple[str, ...] | None
    """None: all."""
    protocol: Mapping[str, Any]
    sampler: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.label}/{called(self.concept)}/{self.seed}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        table = json.loads(text)
        return cls(**table | {"metrics": None if table["metrics"] is None else tuple(table["metrics"])})


@dataclass(frozen=True)
class Suite:
    """A benchmark."""

    name: str
    methods: tuple[Entry, ...]
    concepts: tuple[Subject, ...]
    """Reported."""
    tuning: tuple[Concept, ...]
    """For the search; no concept is in both."""
    seeds: tuple[int, ...]
    model: str
    dtype: str
    judge: str | None
    metrics: tuple[str, ...] | None
    protocol: Mapping[str, Any]
    sampler: Mapping[str, Any]
    search: Search

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Everything that is reported, seed by seed, so that an early look at the table sees every method."""
        tables = [[_described(c, e.synonyms) for c in self.concepts] for e in self.methods]
        return tuple(self._unit(e, t, s) for s in self.seeds for e, ts in zip(self.methods, tables, strict=True) for t in ts)

    def tuned(self, entry: Entry) -> list[Unit]:
        """What a search does with some settings."""
        return [self._unit(entry, _described(c, entry.synonyms), self.search.seed) for c in self.tuning]

    def _unit(self, entry: Entry, concept: Mapping[str, Any], seed: int) -> Unit:
        deciding = (entry.name, entry.settings, entry.training, concept, seed, self.model, self.dtype, version_of("expunge"))
        words = (entry.name.rpartition(":")[2], _short(concept), str(seed), digest(*deciding)[:8])
        return Unit(
            id="-".join(slug(w) for w in words),
            label=entry.label,
            method=entry.name,
            settings=entry.settings,
            training=entry.training,
            concept=concept,
            seed=seed,
            model=str(Path(self.model).resolve()) if Path(self.model).is_dir() else self.model,
            dtype=self.dtype,
            judge=self.judge,
            metrics=self.metrics,
            protocol=dict(self.protocol) | {"seed": seed},
            sampler=self.sampler,
        )


def _short(concept: Mapping[str, Any]) -> str:
    """Of many concepts the first and how many more: a folder's name has an end."""
    targets = [t["target"] for t in concept.get("targets", ())]
    return called(concept) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} more {concept['together']}"


def _described(concept: Subject, synonyms: bool) -> dict[str, Any]:
    """A concept, or several, as a unit carries it, its other names given as targets or not."""

    def named(c: Concept) -> Concept:
        return replace(c, synonyms=tuple(n for n in (c.member.name, *c.member.synonyms) if n != c.target)) if synonyms else c

    parts = tuple(map(named, concept.parts))
    return json.loads(json.dumps(concept_table(parts[0] if isinstance(concept, Concept) else replace(concept, parts=parts))))


def slug(text: str) -> str:
    """A part of a file's name.

    >>> slug("MiM-MU, synonym given")
    'mim-mu--synonym-given'
    """
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def builtin() -> list[str]:
    """The suites that come with the package."""
    files = resources.files("expunge.bench").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_suite(name: str | Path) -> Suite:
    """A suite from a TOML file, or a built-in one by name.

    Raises:
        ExpungeError: no such file or name; unknown keys, methods, settings, concepts, metrics (each with the nearest valid one);
            a concept that is both tuned on and reported.
    """
    if str(name) in builtin() and not Path(name).exists():
        with resources.as_file(resources.files("expunge.bench") / f"{name}.toml") as file:
            return make_suite(config.read_toml(file), str(name))
    if not Path(name).exists() and not str(name).endswith(".toml"):
        known = builtin()
        raise ExpungeError(
            f"a suite is a TOML file or one of {', '.join(known)}: {str(name)!r} is neither{config.nearest(str(name), known)}"
        )
    return make_suite(config.read_toml(Path(name)), Path(name).stem)


def make_suite(table: Mapping[str, Any], name: str) -> Suite:
    """A suite from parsed TOML."""
    _known(table, KEYS, f"the suite {name!r}")
    for key in ("methods", "concepts"):
        if not isinstance(table.get(key), list) or not table[key]:
            raise ExpungeError(f"a suite has {key}: {name!r} has {table.get(key)!r}; see docs/bench.md")
    seeds, model = table.get("seeds", [0]), str(table.get("model", CANVAS))
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds) or len(set(seeds)) < len(seeds):
        raise ExpungeError(f"seeds are different whole numbers: {name!r} has {seeds!r}; for example seeds = [0, 1, 2]")
    protocol = {k: v for k, v in config.settings(config.build(Protocol, table.get("protocol", {}), "protocol")).items() if k != "seed"}
    if "seed" in table.get("protocol", {}):
        raise ExpungeError("pictures start from the noise of the unit's own seed: [protocol] has a seed; remove it and use seeds = [...]")
    metrics = table.get("metrics")
    measure(Evidence("", "", {}, {}), metrics or ())  # refuses unknown names
    vocabulary = _vocabulary(table.get("vocabulary"), model)
    concepts = tuple(_subject(c, vocabulary) for c in table["concepts"])
    tuning = tuple(_concept(c, vocabulary) for c in table.get("tuning", []))
    _apart(concepts, tuning, name)
    suite = Suite(
        name=name,
        methods=_entries(table["methods"]),
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
    )
    first = {u.id: u for u in reversed(suite.units)}
    if twice := next((u for u in suite.units if first[u.id] is not u), None):
        raise ExpungeError(f"every unit of a suite is another run: {twice.name} stands in {name!r} twice; remove one")
    return suite


def _entries(tables: Sequence[Any]) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for table in tables:
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise ExpungeError(f'an entry of methods has a name: {table!r} has none; for example [[methods]] name = "uce"')
        method = config.build(config.find_method(table["name"]), {k: v for k, v in table.items() if k not in OWN}, table["name"])
        given = table.get("training", {})
        if not isinstance(method, Objective) and given:
            raise ExpungeError(f"a closed form is not trained: {table['name']} takes no {', '.join(given)}; leave training out")
        training = config.build(Training, config.settings(method.training) | given, "training") if isinstance(method, Objective) else None
        label = str(table.get("label", table["name"]))
        if "/" in label:
            raise ExpungeError(f"a label has no slash, which separates the parts of a unit's name: {label!r} has one; choose another")
        if any(label == e.label for e in entries):
            raise ExpungeError(f"a label names one entry of methods: {label!r} stands there twice; give one of them another label")
        own = config.settings(method), config.settings(training) if training else {}, table.get("space", {})
        entries.append(Entry(table["name"], label, bool(table.get("synonyms", False)), *own))
    return tuple(entries)


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
    if not isinstance(table, Mapping) or "target" not in table:
        raise ExpungeError(f"a concept is a name or a table with a target: {given!r} is neither; see `expunge ls concepts`")
    _known(table, TARGET, "a concept")
    return Concept.find(table["target"], vocabulary, anchor=table.get("anchor"), kind=table.get("kind"))


def _apart(reported: Sequence[Subject], tuning: Sequence[Concept], name: str) -> None:
    """Under whatever names: a synonym of a reported concept is that concept."""
    known = {(c.kind, c.member.name) for several in reported for c in several.parts}
    both = [t.target for t in tuning if (t.kind, t.member.name) in known]
    if both:
        raise ExpungeError(
            f"concepts are tuned on or reported, never both: {name!r} has {', '.join(both)} in concepts and tuning; remove one of the two"
        )


def _sampler(given: Mapping[str, Any]) -> dict[str, Any]:
    from expunge.denoiser import Sampler

    config.build(Sampler, given, "sampler")
    return dict(given)


def _vocabulary(given: str | None, model: str) -> Vocabulary:
    if given is None:
        given = "canvas" if model == CANVAS else "general"
    return VOCABULARIES[given]() if given in VOCABULARIES else Vocabulary.load(Path(given))


def _known(table: Mapping[str, Any], keys: Collection[str], what: str) -> None:
    for key in table:
        if key not in keys:
            raise ExpungeError(f"{what} has the keys {', '.join(keys)}: {key!r} is none{config.nearest(key, keys)}; rename or remove it")
