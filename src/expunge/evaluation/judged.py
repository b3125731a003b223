"""Makes samples, evidence for metrics, and the pairs of images for a report from judged images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.evaluation.judges import Judge, Judgement, judge_images
from expunge.evaluation.metrics import Evidence
from expunge.evaluation.metrics.base import RETAINED
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rejection import find_threshold, lowest
from expunge.evaluation.rendering import ImageFiles, png
from expunge.evaluation.results import Sample
from expunge.storage.files import write_atomically

PAIRS = 12
"""Image pairs of each probe that are written for the report."""


@dataclass(frozen=True)
class Judged:
    """One judge's labels of the images of one concept's probes, by a run and by its base model. Entry i belongs to shot i."""

    concept: Concept
    shots: Sequence[Shot]
    judge: Judge
    run: Judgement
    base: Judgement

    def samples(self, run: str) -> tuple[Sample, ...]:
        """One sample of each image, with the id of the run or stage."""
        kind = self.concept.vocabulary.kinds[self.concept.kind]
        about = run, self.concept.target, kind.name, kind.partner
        seen, base = _by_image(self.run.seen, len(self.shots)), _by_image(self.base.seen, len(self.shots))
        known = {
            m: self.judge.knows(m, self.concept) for m in {s.prompt.labels[kind.name] for s in self.shots if kind.name in s.prompt.labels}
        }
        sure, base_sure = (_by_image(j.confidence, len(self.shots)) for j in (self.run, self.base))
        rejected, base_rejected = self._reject()
        return tuple(
            Sample(
                *about, shot.probe, shot.prompt.prompt, shot.index, self.judge.name, dict(shot.prompt.labels), seen[i], base[i],
                {k: round(v, 4) for k, v in sure[i].items()}, {k: round(v, 4) for k, v in base_sure[i].items()},
                () if known.get(shot.prompt.labels.get(kind.name, ""), True) else (kind.name,),
                _rounded(self.run.scores, i), _rounded(self.base.scores, i), rejected[i], base_rejected[i],
            )
            for i, shot in enumerate(self.shots)
        )  # fmt: skip

    def _reject(self) -> tuple[Sequence[bool | None], Sequence[bool | None]]:
        """Whether the judge recognises no member in each image of the run, and of the base model. The threshold is of the base model's
        images of what should remain in which it sees what their prompts name."""
        sure, base_sure = lowest(self.run.confidence), lowest(self.base.confidence)
        retained = [i for i, shot in enumerate(self.shots) if shot.probe in RETAINED and base_sure]
        threshold = find_threshold([base_sure[i] for i in retained if self._is_right(i)])
        if threshold is None:
            return (nobody := (None,) * len(self.shots)), nobody
        return [value < threshold for value in sure], [value < threshold for value in base_sure]

    def _is_right(self, i: int) -> bool:
        """Whether the judge sees in image i of the base model what its prompt names, of the kinds that it labels, and of one at least."""
        labels, seen = self.shots[i].prompt.labels, self.base.seen
        return bool(kinds := labels.keys() & seen.keys()) and all(seen[kind][i] == labels[kind] for kind in kinds)

    def evidence(self, run: str, drawings: Float[Tensor, "m d"] | None = None, looks: int = 1) -> Evidence:
        """The input of metrics. `looks` is how often the results are looked at."""
        return Evidence(self.samples(run), _array(self.run.features), _array(self.base.features), _array(drawings), looks)


def _by_image(columns: Mapping[str, tuple[Any, ...]], count: int) -> list[dict[str, Any]]:
    return [{kind: values[i] for kind, values in columns.items()} for i in range(count)]


def _rounded(scores: Sequence[Mapping[str, float]], i: int) -> dict[str, float]:
    """What a judge measured of an image, to 4 digits; empty of a judge without scores."""
    return {name: round(value, 4) for name, value in scores[i].items()} if scores else {}


def _array(features: Tensor | None) -> np.ndarray | None:
    return None if features is None else features.detach().cpu().numpy()


def real_features(
    judge: Judge, concept: Concept, shots: Sequence[Shot], real: Callable[[Sequence[Mapping[str, str]]], Any]
) -> Float[Tensor, "m d"] | None:
    """The judge's features of real images with the contents of the retained prompts.

    Args:
        real: `Defaults.real_images` of the model.
    """
    return judge_images(judge, real([s.prompt.labels for s in shots if s.probe in RETAINED]), concept).features


def write_pairs(
    folder: Path, within: str, shots: Sequence[Shot], images: tuple[ImageFiles, ImageFiles], judged: Judged | None
) -> list[dict[str, Any]]:
    """Write the image pairs that a report shows, and return their entries. They are first images of prompts, spread evenly over each probe.

    Args:
        folder: `evaluation/` of a run.
        within: a folder in `pictures/`, with a slash at its end.
        images: the base model's and the run's.
        judged: their labels by the first judge.
    """
    labels = ({}, {}) if judged is None else (judged.base.seen, judged.run.seen)
    sides = list(zip(("base", "unlearned"), ("seen_base", "seen"), images, labels, strict=True))
    listed = []
    for probe in dict.fromkeys(s.probe for s in shots):
        first = [i for i, s in enumerate(shots) if s.probe == probe and (s.index == 0 or probe == "null")]
        for i in first[:: -(-len(first) // PAIRS)][:PAIRS]:
            prompt = shots[i].prompt
            entry: dict[str, Any] = {"probe": probe, "prompt": prompt.prompt, "seed": shots[i].index, "wanted": dict(prompt.labels)}
            for name, key, side, seen in sides:
                entry |= {name: f"pictures/{within}{i:05d}-{name}.png", key: {kind: of[i] for kind, of in seen.items()}}
                write_atomically(folder / entry[name], png(side.read(i)))
            listed.append(entry)
    return listed
