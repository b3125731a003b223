"""Everything that decides a run's result, resolved and checked before any work begins."""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from expunge import config
from expunge.cache import digest
from expunge.concept import Concept
from expunge.denoiser import StableDiffusion
from expunge.objective import Method, Objective, Training
from expunge.types import ExpungeError
from expunge.vocabulary import Vocabulary


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run's result."""

    model: str
    fingerprint: str
    concept: Concept
    method: Method
    training: Training | None
    """None for closed forms."""
    seed: int
    dtype: str

    @property
    def tables(self) -> dict[str, Any]:
        """The content of `config.toml`."""
        tables: dict[str, Any] = {
            "model": {"name": self.model, "fingerprint": self.fingerprint, "dtype": self.dtype},
            "seed": self.seed,
            "concept": concept_table(self.concept),
            "method": {"name": config.method_name(self.method), **config.settings(self.method)},
        }
        return tables | ({"training": config.settings(self.training)} if self.training else {})

    @property
    def id(self) -> str:
        deciding = self.tables | {"model": {"fingerprint": self.fingerprint, "dtype": self.dtype}, "version": version_of("expunge")}
        name = config.method_name(self.method).rpartition(":")[2].lower()
        slug = "".join(c if c.isalnum() else "-" for c in self.concept.target.lower())
        return f"{name}-{slug}-{digest(deciding)[:10]}"


def make_plan(
    denoiser: StableDiffusion,
    concept: str | Concept,
    method: str | Method,
    *,
    training: Training | Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    **settings: Any,
) -> Plan:
    """Resolves names and defaults, and checks everything that can be checked before work begins."""
    if isinstance(concept, str):
        concept = Concept.find(concept, Vocabulary.canvas() if denoiser.is_canvas else Vocabulary.general())
    if isinstance(method, str):
        method = config.build(config.find_method(method), settings, method)
    elif settings:
        raise ExpungeError(
            f"settings go with a method's name: {', '.join(settings)} given beside a method made beforehand; use one of the two"
        )
    if isinstance(method, Objective):
        given = config.as_table(training or {})
        training = config.build(Training, config.settings(method.training) | given, "training")
    elif training:
        names = ", ".join(config.as_table(training))
        raise ExpungeError(f"a closed form is not trained: {config.method_name(method)} takes no {names}; leave it out")
    else:
        training = None
    if "marginal" in method.needs and concept.vocabulary.kinds[concept.kind].harmless and not concept.others:
        raise ExpungeError(
            f"the marginal needs other members of the kind {concept.kind!r}: the vocabulary has none beside {concept.target!r}; "
            "give a vocabulary with --vocabulary, or choose --target-as context"
        )
    denoiser.encode([p.prompt for p in concept.forget()])  # unknown and truncated words show here
    return Plan(denoiser.name, denoiser.fingerprint, concept, method, training, seed, dtype)


def concept_table(concept: Concept) -> dict[str, Any]:
    """A concept as TOML, its vocabulary included unless it is a built-in one."""
    table: dict[str, Any] = {"target": concept.target, "kind": concept.kind, "synonyms": list(concept.synonyms)}
    if concept.anchor:
        table["anchor"] = concept.anchor
    builtin = next((n for n, make in VOCABULARIES.items() if make() == concept.vocabulary), None)
    return table | {"vocabulary": builtin or {n: config.settings(k) for n, k in concept.vocabulary.kinds.items()}}


def concept_from(table: Mapping[str, Any]) -> Concept:
    """The inverse of `concept_table`."""
    words = table.get("vocabulary", "general")
    vocabulary = VOCABULARIES[words]() if isinstance(words, str) else Vocabulary.from_tables(words)
    found = Concept.find(table["target"], vocabulary, tuple(table.get("synonyms", ())), table.get("anchor"), table.get("kind"))
    return replace(found, target=table["target"])


VOCABULARIES: dict[str, Callable[[], Vocabulary]] = {"canvas": Vocabulary.canvas, "general": Vocabulary.general}


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
