"""What a metric reads, judged images of a run and of the base model, and what it gives.

No model, file or device is known here, and no torch: rendering and judging are the caller's.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from expunge.concepts.concept import PROBES
from expunge.errors import ExpungeError
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import Interval, PairedChange, clustered, clustered_mean, grouped, level_of, paired_change

RETAINED = ("siblings", "same_domain", "cross_domain")
"""The probes that erasure should leave as they were."""


@dataclass(frozen=True)
class Measured:
    """What one network says of the images: features, or one number for each image (d = 1)."""

    run: Float[np.ndarray, "n d"]
    """Of the run's images, a row for each sample."""
    base: Float[np.ndarray, "n d"] | None = None
    """Of the base model's images of the same prompts and noise."""
    real: Float[np.ndarray, "m d"] | None = None
    """Of real images."""


@dataclass(frozen=True)
class Evidence:
    """All that is known of one run's images, by one judge or by networks, for one concept."""

    samples: tuple[Sample, ...]
    features: Float[np.ndarray, "n d"] | None = None
    """The judge's features of the run's images, a row for each sample."""
    base_features: Float[np.ndarray, "n d"] | None = None
    """Those of the base model's images of the same prompts and noise."""
    drawings: Float[np.ndarray, "m d"] | None = None
    """Those of fresh real images, where the world has them."""
    looks: int = 1
    """The number of rounds after which the evaluation may end. More rounds make wider intervals."""
    networks: Mapping[str, Measured] = field(default_factory=dict)
    """What networks say of the images, by the key of `--features`: `Description.network`."""

    def __post_init__(self) -> None:
        if unknown := {s.probe for s in self.samples} - PROBES.keys():
            raise ValueError(f"a probe is one of {', '.join(PROBES)}: {', '.join(sorted(unknown))} is none")
        sides = [("features", self.features), ("base_features", self.base_features)]
        for name, features in (*sides, *((name, of) for name, m in self.networks.items() for of in (m.run, m.base))):
            if features is not None and len(features) != len(self.samples):
                raise ValueError(f"each sample has a row of {name}: there are {len(self.samples)} samples and {len(features)} rows")

    def of_base(self) -> "Evidence":
        """The same with the base model's images as the run's: from it follow the base model's own values."""
        samples = tuple(_of_base(s) for s in self.samples)
        networks = {k: replace(m, run=m.base) for k, m in self.networks.items() if m.base is not None}
        return replace(self, samples=samples, features=self.base_features, networks=networks)

    def measured(self, network: str) -> Measured | None:
        """What a network says of the images; without a name, the judge's features. None where nothing was measured."""
        if network:
            return self.networks.get(network)
        return None if self.features is None else Measured(self.features, self.base_features, self.drawings)


def _of_base(sample: Sample) -> Sample:
    """The base model's image as if it were the run's."""
    now = replace(sample, seen=sample.base, confidence=sample.base_confidence, scores=sample.base_scores, rejected=sample.base_rejected)
    return replace(now, base={}, base_confidence={}, base_scores={}, base_rejected=None)


@dataclass(frozen=True)
class Score:
    """One number with a 95 % interval around it."""

    metric: str
    probe: str
    """The prompt sets behind it, joined by "+"."""
    value: float
    ci_low: float
    ci_high: float
    n: int
    """Images of the run that were counted."""
    change: PairedChange | None = None
    """From the base model, image by image; None of what is no share, and where the base model's images were not judged."""
    known: int | None = None
    """Members of the concept's kind, among `members`, that the judge has a label for; both are None if it knows all."""
    members: int | None = None
    """Members of the concept's kind that the prompts name."""


class Metric(ABC):
    """Judged images in, numbers out; never sees a model. `about` describes it; no other file has to be changed for it."""

    about: ClassVar[Description]

    @abstractmethod
    def __call__(self, evidence: Evidence) -> list[Score]:
        """The scores; none where what it needs (a judge's labels, features, enough images) is missing."""

    def score(self, interval: Interval, n: int, change: PairedChange | None = None) -> Score:
        """A score named after all the probes that the metric declares."""
        probe = "+".join(p for p in PROBES if p in self.about.probes)
        value, low, high = map(float, interval)  # of numpy's numbers files could not be written
        return Score(self.about.name, probe, value, low, high, n, change)


def pool(samples: Sequence[Sample], probes: Collection[str]) -> list[int]:
    """The places of the samples of `probes`, by prompt and seed whatever order they came in.

    Only seeds that all of these probes share are used, so that a probe rendered with more seeds weighs no more than its prompts.

    Raises:
        ExpungeError: rule "no-shared-seed".
    """
    places = [i for probe in PROBES if probe in probes for i, s in enumerate(samples) if s.probe == probe]
    seeds: dict[str, set[int]] = {}
    for i in places:
        seeds.setdefault(samples[i].probe, set()).add(samples[i].seed)
    shared = set.intersection(*seeds.values()) if seeds else set()
    if seeds and not shared:
        raise ExpungeError(
            f"The probes {', '.join(seeds)} are measured together and share no seed.",
            rule="no-shared-seed",
            value=list(seeds),
            hint="Try the same seeds for all of them.",
        )
    return sorted((i for i in places if samples[i].seed in shared), key=lambda i: (samples[i].prompt, samples[i].seed))


def shows(sample: Sample, seen: Mapping[str, str], *kinds: str) -> bool | None:
    """Whether a judge's labels `seen` are all that the prompt says of `kinds`; None where it says nothing of them, or where the judge
    does not label one of them, or not the member that is asked for: what nobody judged is neither right nor wrong."""
    said = [kind for kind in kinds if kind in sample.wanted]
    if not said or not all(kind in seen for kind in kinds) or any(kind in sample.unjudged for kind in said):
        return None
    return all(sample.wanted[kind] == seen[kind] for kind in said)


class Share(Metric):
    """A share of the pooled images of some probes, with its paired change from the base model."""

    @abstractmethod
    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        """Whether an image with the labels `seen` is as it should be; None where it does not count."""

    def __call__(self, evidence: Evidence) -> list[Score]:
        pooled = [evidence.samples[i] for i in pool(evidence.samples, self.about.probes)]
        counted = [(s, right) for s in pooled if (right := self.is_right(s, s.seen)) is not None]
        if not counted:
            return []
        samples, hits = [s for s, _ in counted], [right for _, right in counted]
        before = [self.is_right(s, s.base) for s in samples]
        known = [right for right in before if right is not None]
        change = paired_change(hits, known, [s.prompt for s in samples], evidence.looks) if len(known) == len(hits) else None
        score = self.score(clustered(grouped(hits, concepts(samples)), evidence.looks), len(hits), change)
        named = {s.wanted[s.kind]: s.kind not in s.unjudged for s in pooled if s.kind in s.wanted}
        return [score if all(named.values()) else replace(score, known=sum(named.values()), members=len(named))]


def concepts(samples: Sequence[Sample]) -> list[str]:
    """The group of each image: images of a group resemble each other beyond their noise. A group is a concept, or a prompt where all
    images are of one concept.

    A prompt of two concepts counts for the one of the erased kind. A share's interval then covers other concepts of the kind. A paired
    change is grouped by prompt instead: it answers whether these prompts' images changed, and damage to a single concept is a change.
    """
    named = [s.wanted.get(s.kind, s.wanted.get(s.partner, "")) for s in samples]
    return named if len(set(named)) > 1 else [s.prompt for s in samples]


class Distance(Metric):
    """How far features of the retained images lie from others: the base model's, paired, or those of real images."""

    @abstractmethod
    def between(self, ours: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"]) -> Interval:
        """The distance of two sets of features."""

    def __call__(self, evidence: Evidence) -> list[Score]:
        places = pool(evidence.samples, self.about.probes)
        if (measured := evidence.measured(self.about.network)) is None:
            return []
        ours = measured.run[places]
        if self.about.from_base:
            others = None if measured.base is None else measured.base[places]
        else:
            others = measured.real
        if others is None or min(len(ours), len(others)) < 3:
            return []
        found = self.between(ours, others)
        return [self.score(found if evidence.looks == 1 else found.widened(level_of(evidence.looks)), len(ours))]


class Mean(Metric):
    """The mean over images of one number of each, as a network gives it. Its interval is clustered by prompt."""

    def __call__(self, evidence: Evidence) -> list[Score]:
        places = pool(evidence.samples, self.about.probes)
        if (measured := evidence.measured(self.about.network)) is None or len(places) < 2:
            return []
        found = clustered_mean(measured.run[places, 0].tolist(), [evidence.samples[i].prompt for i in places])
        return [self.score(found if evidence.looks == 1 else found.widened(level_of(evidence.looks)), len(places))]
