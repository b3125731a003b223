"""What a benchmark is: methods, concepts and seeds, and the units of work that they come to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_table, target_of
from expunge.config import version_of
from expunge.methods.config import Layer
from expunge.names import RETRAINED, dashed
from expunge.storage.code import code_digest
from expunge.storage.hashing import digest
from expunge.training.identity import training_code


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
class Attacking:
    """How every run of a suite is attacked: `expunge audit` on each, its controls shared among them."""

    budget: str = "quick"
    """`quick`, `standard`, `full`, or a file. More finds more and takes longer."""
    control: str = ""
    """The folder of a run that never saw any of the suite's concepts, as `expunge.canvas.training.retrain` makes; `none`: none; empty: the
    one that the canvas brings, for the concepts that it never saw."""


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
    seeds: tuple[int, ...] | None = None
    """Those of the suite that it is run with; None: all."""
    concepts: tuple[Subject, ...] | None = None
    """In the place of the suite's; None: those."""
    before: tuple[Mapping[str, Any], ...] = ()
    """Methods that go first, with all their settings, as of `expunge.unlearn`."""


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
    audit: Mapping[str, Any] | None = None
    """The attacks, as a budget's table, and the folder of the control; None: the run is not attacked."""
    before: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.label}/{target_of(self.concept)}/{self.seed}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        table = json.loads(text)
        return cls(**table | {n: tuple(table[n]) for n in ("metrics", "before") if table.get(n) is not None})


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
    audit: Mapping[str, Any] | None = None
    """As of a unit."""

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Everything that is reported, seed by seed, so that an early look at the table sees every method."""
        tables = [[_described(c, e.synonyms) for c in (self.concepts if e.concepts is None else e.concepts)] for e in self.methods]
        each = [(e, t) for e, ts in zip(self.methods, tables, strict=True) for t in ts]
        units = (self._unit(e, t, s) for s in self.seeds for e, t in each if e.seeds is None or s in e.seeds)
        return tuple(replace(u, audit=None if u.method == RETRAINED else self.audit) for u in units)

    def tuned(self, entry: Entry) -> list[Unit]:
        """What a search does with some settings."""
        return [self._unit(entry, _described(c, entry.synonyms), self.search.seed) for c in self.tuning]

    @cached_property
    def _words(self) -> str:
        """A digest of the vocabulary, of which a concept's table may have only the name."""
        return digest(asdict(self.concepts[0].parts[0].vocabulary))

    def _unit(self, entry: Entry, concept: Mapping[str, Any], seed: int) -> Unit:
        asked = entry.name, entry.settings, entry.training, entry.before, concept, seed, self.model, self.dtype
        deciding = *asked, _code(entry), self._words, version_of("expunge")
        words = (entry.name.rpartition(":")[2], _short(concept), str(seed), digest(*deciding)[:8])
        return Unit(
            id="-".join(dashed(w) for w in words),
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
            before=entry.before,
        )


def _code(entry: Entry) -> str:
    """A digest of the code that decides the weights: of the method and of those before it, of training, and of all families of models."""
    if entry.name == RETRAINED:
        return code_digest("expunge.canvas.training.retrain", "expunge.models")
    tables = *entry.before, {"method": {"name": entry.name, **entry.settings}}
    return training_code((Layer.of(table, allow_code=True).method for table in tables), ("expunge.models",))  # it was allowed before


def _short(concept: Mapping[str, Any]) -> str:
    """Of many concepts the first and how many more: a folder's name has an end."""
    targets = [t["target"] for t in concept.get("targets", ())]
    return target_of(concept) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} more {concept['together']}"


def _described(concept: Subject, synonyms: bool) -> dict[str, Any]:
    """A concept, or several, as a unit carries it, its other names given as targets or not."""

    parts = tuple(c.by_every_name if synonyms else c for c in concept.parts)
    return json.loads(json.dumps(concept_table(parts[0] if isinstance(concept, Concept) else replace(concept, parts=parts))))
