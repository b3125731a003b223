"""What a metric looks at: judged pictures of prompt sets, from the unlearned model and, paired, from the untouched one.

No model, file or device is known here; who renders and judges the pictures is the caller's affair.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.concepts.concept import PROBES
from expunge.errors import ExpungeError
from expunge.evaluation.statistics import Interval

RETAINED = frozenset({"siblings", "same_domain", "cross_domain"})
"""The probes that erasure should leave as they were."""


@dataclass(frozen=True)
class Shots:
    """The judged pictures of one probe, or of several pooled; entry i of every field belongs to picture i."""

    probe: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    """Which noise the picture started from."""
    wanted: Mapping[str, tuple[str | None, ...]]
    """By kind, the label that the picture should be given; None where its prompt does not say."""
    seen: Mapping[str, tuple[str, ...]]
    """By kind, the label that the judge gave. A kind without a judge is missing."""
    features: Float[Tensor, "n d"] | None = None
    """The judge's features."""

    def __post_init__(self) -> None:
        columns: dict[str, Sized] = {"seeds": self.seeds}
        columns |= {f"wanted labels of {kind}": labels for kind, labels in self.wanted.items()}
        columns |= {f"seen labels of {kind}": labels for kind, labels in self.seen.items()}
        columns |= {} if self.features is None else {"features": self.features}
        for name, column in columns.items():
            if len(column) != len(self):
                raise ValueError(f"each picture has one entry in every column: {self.probe} has {len(self)} prompts, {len(column)} {name}")

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> "Shots":
        """Pictures `rows`, in that order."""

        def of(column: tuple) -> tuple:
            return tuple(column[i] for i in rows)

        wanted, seen = ({kind: of(labels) for kind, labels in columns.items()} for columns in (self.wanted, self.seen))
        features = None if self.features is None else self.features[list(rows)]
        return Shots(self.probe, of(self.prompts), of(self.seeds), wanted, seen, features)

    @staticmethod
    def cat(parts: "Sequence[Shots]") -> "Shots":
        """All pictures of `parts`. A kind counts as judged, and features are kept, only where every part has them."""
        wanted = dict.fromkeys(kind for p in parts for kind in p.wanted)
        seen = [kind for kind in (parts[0].seen if parts else ()) if all(kind in p.seen for p in parts)]
        features = [p.features for p in parts if p.features is not None]
        return Shots(
            "+".join(dict.fromkeys(p.probe for p in parts)),
            tuple(text for p in parts for text in p.prompts),
            tuple(seed for p in parts for seed in p.seeds),
            {kind: tuple(label for p in parts for label in p.wanted.get(kind, (None,) * len(p))) for kind in wanted},
            {kind: tuple(label for p in parts for label in p.seen[kind]) for kind in seen},
            torch.cat(features) if features and len(features) == len(parts) else None,
        )

    def right(self, *kinds: str) -> list[bool]:
        """For each picture whose prompt says something of `kinds`: whether the judge saw all that it says.

        Empty when a kind has no judge: what nobody looked at is neither right nor wrong.
        """
        if not all(kind in self.seen for kind in kinds):
            return []
        silent = (None,) * len(self)
        pairs = [zip(self.wanted.get(kind, silent), self.seen[kind], strict=True) for kind in kinds]
        said = ([(wanted, seen) for wanted, seen in picture if wanted is not None] for picture in zip(*pairs, strict=True))
        return [all(wanted == seen for wanted, seen in picture) for picture in said if picture]


def pool(shots: Mapping[str, Shots], probes: Collection[str]) -> Shots:
    """The pictures of `probes` together, in one order whatever order they came in; probes without pictures drop out.

    Only seeds that all of these probes share are used, so that a probe rendered with more seeds weighs no more than its prompts.

    Raises:
        ExpungeError: the probes share no seed.
    """
    parts = [shots[p] for p in PROBES if p in probes and len(shots.get(p, ()))]
    shared = set.intersection(*(set(p.seeds) for p in parts)) if parts else set()
    if parts and not shared:
        names = ", ".join(p.probe for p in parts)
        raise ExpungeError(f"probes measured together share at least one seed: {names} share none; render them with the same seeds")
    together = Shots.cat([p.select([i for i, seed in enumerate(p.seeds) if seed in shared]) for p in parts])
    return together.select(sorted(range(len(together)), key=lambda i: (together.prompts[i], together.seeds[i])))


@dataclass(frozen=True)
class Evidence:
    """All that is known of one unlearned model (attacked or not) when it is measured."""

    kind: str
    """The erased concept's kind, for example "style"."""
    partner: str
    """The other domain's kind, for example "object"."""
    shots: Mapping[str, Shots]
    """The unlearned model's pictures, by probe."""
    base: Mapping[str, Shots]
    """The untouched model's pictures of the same prompts from the same noise, row by row; empty if there are none."""
    drawn: Float[Tensor, "m d"] | None = None
    """The judge's features of fresh real pictures, if the world has them."""

    def __post_init__(self) -> None:
        if unknown := self.shots.keys() - PROBES.keys():
            raise ValueError(f"a probe is one of {', '.join(PROBES)}: {', '.join(sorted(unknown))} is none")
        if self.base and self.base.keys() != self.shots.keys():
            raise ValueError(f"both models show the same probes: {', '.join(sorted(self.shots))} beside {', '.join(sorted(self.base))}")
        for probe, base in self.base.items():
            ours = self.shots[probe]
            if (ours.prompts, ours.seeds) != (base.prompts, base.seeds):
                raise ValueError(f"both models' pictures are paired, row by row of equal prompt and seed: those of {probe} are not")


class Metric(Protocol):
    """Judged pictures in, numbers out; never sees a model."""

    @property
    def name(self) -> str:
        """As papers print it."""

    @property
    def title(self) -> str:
        """What it is, in one line."""

    @property
    def probes(self) -> frozenset[str]:
        """The prompt sets whose pictures it looks at."""

    @property
    def higher_is_better(self) -> bool: ...

    def __call__(self, evidence: Evidence) -> "list[Score]":
        """The scores; none when what they need (a judge's labels, features, enough pictures) is missing."""


class Distance:
    """How far features of the retained pictures lie from others: the untouched model's, paired, or fresh real ones."""

    name: str
    title: str
    paired: bool
    between: Callable[..., Interval]
    """Of two sets of features, and whether they are paired."""
    probes = RETAINED
    higher_is_better = False

    def __call__(self, evidence: Evidence) -> "list[Score]":
        ours = pool(evidence.shots, self.probes).features
        others = pool(evidence.base, self.probes).features if self.paired else evidence.drawn
        if ours is None or others is None or min(len(ours), len(others)) < 3:
            return []
        return [Score.of(self, self.between(ours, others, paired=self.paired), len(ours))]


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
    """Pictures of the unlearned model that were counted."""

    @classmethod
    def of(cls, metric: Metric, interval: Interval, n: int) -> "Score":
        """A metric's score, named after all the probes that it declares."""
        return cls(metric.name, "+".join(p for p in PROBES if p in metric.probes), interval.value, interval.low, interval.high, n)
