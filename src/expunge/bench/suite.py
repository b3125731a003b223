"""A benchmark suite: methods, concepts and seeds, and the units of work that they define."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from expunge.bench.published import About, Data, Reported, look
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_table, target_of
from expunge.config import version_of
from expunge.evaluation.judge_settings import JudgeSpec
from expunge.evaluation.metrics import measurable
from expunge.evaluation.prompt_lists import PromptList, can_measure
from expunge.methods.config import Layer
from expunge.names import RETRAINED, dashed
from expunge.storage.code import code_digest
from expunge.storage.hashing import digest
from expunge.training.identity import training_code


@dataclass(frozen=True)
class Search:
    """How settings are searched, equally for every method."""

    trials: Annotated[int, Ge(1)] = 12
    """Settings tried for each method, its defaults first. More find better ones and take proportionally longer."""
    limit: Annotated[float, Ge(0), Le(1)] = 0.95
    """The smallest allowed ratio of each retained share to the base model's. Larger allows less damage."""
    pareto: bool = False
    """Whether to search for the Pareto front of forgetting and retention, without `limit`."""
    seed: int = 999
    """The seed of the search and of the images that it evaluates. It differs from the reported seeds, because settings would otherwise fit
    their noise."""
    space: Mapping[str, Any] = field(default_factory=dict)
    """The range of a setting: `[low, high]`, `[low, high, "log"]` or, for words, the choices. Methods without the setting ignore it."""


@dataclass(frozen=True)
class AuditSettings:
    """How every run of a suite is attacked: `expunge audit` on each run, with shared controls."""

    budget: str | Mapping[str, Any] = "quick"
    """`quick`, `standard`, `full`, a file, or a budget's content as a table. A larger budget finds more and takes longer."""
    control: str = ""
    """The folder of a run that was never trained on the suite's concepts, as `expunge.canvas.training.retrain` makes; `none` for no
    control; empty for the one that comes with the canvas, for the concepts that it was not trained on."""


@dataclass(frozen=True)
class Entry:
    """A method with its settings, and its label in tables."""

    name: str
    """The registered name of the method."""
    label: str
    """The name of the entry in tables."""
    synonyms: bool
    """Whether the concept's other names are erased too."""
    settings: Mapping[str, Any]
    """All settings, including defaults, so that a changed default is a different run."""
    training: Mapping[str, Any]
    """All training settings; empty for closed forms."""
    space: Mapping[str, Any]
    """The search space of this entry, which overrides that of the search."""
    seeds: tuple[int, ...] | None = None
    """A subset of the suite's seeds; None: all."""
    concepts: tuple[Subject, ...] | None = None
    """The concepts of this entry; None: those of the suite."""
    before: tuple[Mapping[str, Any], ...] = ()
    """Methods that go first, with all their settings, as for `expunge.unlearn`."""


@dataclass(frozen=True)
class Unit:
    """A unit of work: one concept is removed by one method with one seed, and measured. It is plain JSON, so that any machine can do it."""

    id: str
    """The name of its folder: a hash of everything that determines the run, without what is measured."""
    label: str
    method: str
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    concept: Mapping[str, Any]
    """As in a run's `config.toml`."""
    seed: int
    model: str
    dtype: str
    judge: JudgeSpec | None
    metrics: tuple[str, ...] | None
    """None: all."""
    protocol: Mapping[str, Any]
    sampler: Mapping[str, Any]
    audit: Mapping[str, Any] | None = None
    """The attacks, as the table of a budget, and the folder of the control; None: the run is not attacked."""
    before: tuple[Mapping[str, Any], ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    """The networks of metrics, as for `expunge.evaluate`."""
    real: str | None = None
    """The folder of real images."""
    lists: tuple[Mapping[str, Any], ...] = ()
    """The lists of prompts that it is measured on, as tables of `PromptList`."""

    @property
    def name(self) -> str:
        """The label, the targets and the seed, as `--only` takes them."""
        return f"{self.label}/{target_of(self.concept)}/{self.seed}"

    @property
    def prompt_lists(self) -> tuple[PromptList, ...]:
        """The lists of prompts that it is measured on."""
        return tuple(PromptList(**dict(table) | {n: tuple(table[n]) for n in ("metrics", "concepts")}) for table in self.lists)

    @property
    def wanted(self) -> list[str]:
        """The names of what is measured; empty if it has no metrics and its lists of prompts are not on this machine."""
        return [
            *(measurable(self.features, self.real) if self.metrics is None else self.metrics),
            *(m for listed in self.prompt_lists for m in listed.results),
        ]

    def to_json(self) -> str:
        """The unit as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """The inverse of `to_json`."""
        table = json.loads(text)
        return cls(**table | {n: tuple(table[n]) for n in ("metrics", "before", "lists") if table.get(n) is not None})


@dataclass(frozen=True)
class Suite:
    """A benchmark: methods, concepts, seeds and how they are measured."""

    name: str
    methods: tuple[Entry, ...]
    concepts: tuple[Subject, ...]
    """The reported concepts."""
    tuning: tuple[Concept, ...]
    """The concepts of the search; none of them is reported."""
    seeds: tuple[int, ...]
    model: str
    dtype: str
    judge: JudgeSpec | None
    metrics: tuple[str, ...] | None
    protocol: Mapping[str, Any]
    sampler: Mapping[str, Any]
    search: Search
    audit: Mapping[str, Any] | None = None
    """As of a unit, like those below."""
    features: Mapping[str, str] = field(default_factory=dict)
    real: str | None = None
    judges: Mapping[str, JudgeSpec] = field(default_factory=dict)
    """By target, the judge of a concept that has one of its own."""
    about: About | None = None
    """What a published protocol is; None: it is none."""
    data: Mapping[str, Data] = field(default_factory=dict)
    """The data from elsewhere that it needs, by name."""
    reported: tuple[Reported, ...] = ()
    """What papers report under the protocol."""

    @property
    def targets(self) -> set[str]:
        """The targets of all reported concepts."""
        reported = (*self.concepts, *(c for e in self.methods for c in e.concepts or ()))
        return {part.target for several in reported for part in several.parts}

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """All reported units, ordered by seed, so that intermediate tables contain every method."""
        asked = [(e, c) for e in self.methods for c in (self.concepts if e.concepts is None else e.concepts)]
        # Each once: it contains the vocabulary, and a suite may have as many concepts as the vocabulary has members.
        made = {(id(c), e.synonyms): _concept_json(c, e.synonyms) for e, c in {(id(c), e.synonyms): (e, c) for e, c in asked}.values()}
        tables = [[made[id(c), e.synonyms] for other, c in asked if other is e] for e in self.methods]
        each = [(e, t) for e, ts in zip(self.methods, tables, strict=True) for t in ts]
        units = (self._unit(e, t, s) for s in self.seeds for e, t in each if e.seeds is None or s in e.seeds)
        return tuple(replace(u, audit=None if u.method == RETRAINED else self.audit) for u in units)

    def tuning_units(self, entry: Entry) -> list[Unit]:
        """The units of a trial of the search: one for each tuning concept."""
        return [self._unit(entry, _concept_json(c, entry.synonyms), self.search.seed) for c in self.tuning]

    @cached_property
    def _codes(self) -> dict[str, str]:
        """The digest of the code of each entry, which a suite with many concepts would compute for each of them again."""
        return {}

    @cached_property
    def _words(self) -> str:
        """A digest of the vocabulary, of which a concept's table may have only the name."""
        return digest(asdict(self.concepts[0].parts[0].vocabulary))

    def _unit(self, entry: Entry, concept: Mapping[str, Any], seed: int) -> Unit:
        asked = entry.name, entry.settings, entry.training, entry.before, concept, seed, self.model, self.dtype
        key = digest(entry.name, entry.settings, entry.before)
        code = self._codes[key] = self._codes.get(key) or _code(entry)
        deciding = *asked, code, self._words, version_of("expunge")
        words = (entry.name.rpartition(":")[2], _short(concept), str(seed), digest(*deciding)[:8])
        return Unit(
            id="-".join(dashed(w) for w in words),
            label=entry.label,
            method=entry.name,
            settings=entry.settings,
            training=entry.training,
            concept=concept,
            seed=seed,
            model=str(Path(self.model).resolve()) if self.model and Path(self.model).is_dir() else self.model,
            dtype=self.dtype,
            judge=self._judge_of(concept),
            metrics=self.metrics,
            protocol=dict(self.protocol) | {"seed": seed},
            sampler=self.sampler,
            before=entry.before,
            features=self.features,
            real=self.real,
            lists=tuple(t for t in self._lists if not t["concepts"] or not targets_of(concept).isdisjoint(t["concepts"])),
        )

    def _judge_of(self, concept: Mapping[str, Any]) -> JudgeSpec | None:
        """The judge of a concept; of several concepts that of the first that has one."""
        return next((judge for target, judge in self.judges.items() if target in targets_of(concept)), self.judge)

    @cached_property
    def _lists(self) -> tuple[dict[str, Any], ...]:
        """The lists of prompts that are on this machine, as JSON."""
        found = {name: look(name, entry) for name, entry in self.data.items()}
        lists = []
        for name, entry in self.data.items():
            if (prompts := found[name]) and entry.kind == "prompts":
                pictures = found.get(entry.pictures)
                # A metric without its network or pictures is left out, as the dry run says.
                metrics = tuple(m for m in entry.metrics if can_measure(m, self.features, pictures is not None))
                of = PromptList(name, prompts.file, entry.columns, metrics, prompts.sha256, entry.concepts)
                if pictures:
                    of = replace(of, pictures=pictures.file, pictures_sha256=pictures.sha256)
                lists.append(json.loads(json.dumps(asdict(of))))
        return tuple(lists)


def _code(entry: Entry) -> str:
    """A digest of the code that decides the weights: of the method and of those before it, of training, and of all families of models."""
    if entry.name == RETRAINED:
        return code_digest("expunge.canvas.training.retrain", "expunge.models")
    tables = *entry.before, {"method": {"name": entry.name, **entry.settings}}
    return training_code((Layer.of(table, allow_code=True).method for table in tables), ("expunge.models",))  # it was allowed before


def targets_of(concept: Mapping[str, Any]) -> set[str]:
    """The target of each concept of a unit."""
    return {t["target"] for t in concept.get("targets", [concept])}


def _short(concept: Mapping[str, Any]) -> str:
    """The targets in a folder's name: of more than three, the first and the number of others."""
    targets = [t["target"] for t in concept.get("targets", ())]
    return target_of(concept) if len(targets) <= 3 else f"{targets[0]} and {len(targets) - 1} more {concept['together']}"


def _concept_json(concept: Subject, synonyms: bool) -> dict[str, Any]:
    """The concept or concepts of a unit, with all their names to erase if `synonyms`."""
    parts = tuple(c.by_every_name if synonyms else c for c in concept.parts)
    return json.loads(json.dumps(concept_table(parts[0] if isinstance(concept, Concept) else replace(concept, parts=parts))))
