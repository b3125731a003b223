"""How often a judge errs on the base model's images, where prompts say what an image should show. Imports no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from expunge.evaluation.metrics.base import RETAINED, concepts
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import clustered, grouped

WITH = ("target", "synonyms")
"""The probes whose prompts name the concept. Those of `RETAINED` do not; the empty prompt's images may show anything and do not count."""


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95 % interval, clustered by concept or prompt."""

    value: float
    low: float
    high: float
    n: int
    """Images of the base model that were counted."""


@dataclass(frozen=True)
class ErrorRates:
    """A judge's error rates for one concept, on the base model's images of an evaluation.

    A prompt is taken at its word: an image that the base model failed to render counts as an error of the judge, so the rates are upper
    bounds of the judge's own where the base model errs independently.
    """

    judge: str
    concept: str
    false_negative: Rate | None
    """The share of images of prompts with the concept in which the judge does not see it; None without such images."""
    false_positive: Rate | None
    """The share of images of prompts without the concept in which the judge sees it; None without such images."""

    def as_table(self) -> dict[str, Any]:
        """For `evaluation.json`, under the judge."""
        return {k: v for k, v in asdict(self).items() if k != "judge"}


def error_rates(samples: Iterable[Sample]) -> list[ErrorRates]:
    """The error rates of each judge for each concept, from the labels of the base model's images.

    Args:
        samples: of one run, without those of its stages.
    """
    found: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        if sample.kind in sample.base:
            found.setdefault((sample.judge, sample.concept), []).append(sample)
    return [_rates(judge, concept, of) for (judge, concept), of in found.items()]


def _rates(judge: str, concept: str, samples: Sequence[Sample]) -> ErrorRates:
    with_it, without = ([s for s in samples if s.probe in probes] for probes in (WITH, RETAINED))
    name = next((s.wanted[s.kind] for s in with_it if s.kind in s.wanted), None)
    if name is None:
        return ErrorRates(judge, concept, None, None)
    return ErrorRates(
        judge,
        concept,
        _rate(with_it, [s.base[s.kind] != name for s in with_it]),
        _rate(without, [s.base[s.kind] == name for s in without]),
    )


def _rate(samples: Sequence[Sample], errors: Sequence[bool]) -> Rate | None:
    return Rate(*clustered(grouped(errors, concepts(samples))), len(errors)) if samples else None
