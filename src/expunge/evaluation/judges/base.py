"""What every judge has in common: images in, labels with confidences and features out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.evaluation.rendering import RENDER_BATCH
from expunge.evaluation.results import NOTHING as NOTHING

Images = UInt8[Tensor, "b 3 height width"]


@dataclass(frozen=True)
class Judgement:
    """What a judge says of a batch of images."""

    seen: Mapping[str, tuple[str, ...]]
    """By kind, the member that each image shows. A kind that the judge cannot label is missing."""
    features: Float[Tensor, "b d"] | None = None
    """What distances between sets of images are computed from; None of a judge without features."""
    confidence: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By kind, the judge's confidence in each label, from 0 to 1; a kind is missing where the judge has none."""
    scores: tuple[Mapping[str, float], ...] = ()
    """What the judge measured of each image, by name, such as the score of each part that a detector found; empty without such scores."""

    def select(self, places: Sequence[int]) -> "Judgement":
        """What it says of the images at `places`, in that order."""
        seen = {kind: tuple(labels[i] for i in places) for kind, labels in self.seen.items()}
        confidence = {kind: tuple(values[i] for i in places) for kind, values in self.confidence.items()}
        features = None if self.features is None else self.features[list(places)]
        return Judgement(seen, features, confidence, tuple(self.scores[i] for i in places) if self.scores else ())


class Judge(Protocol):
    """A network that labels images. It is loaded once and then serves every concept."""

    name: str
    weights: str
    """Distinguishes it from another of its name: a fingerprint of its weights, or the version of the package they came with."""

    def check(self, concept: Concept) -> None:
        """Refuses a concept that the judge has no label for.

        Raises:
            ExpungeError: rule "judge-lacks-concept".
        """

    def knows(self, member: str, concept: Concept) -> bool:
        """Whether it has a label for this member of the concept's kind. Images of others are left out of every share."""

    def chance(self, concept: Concept) -> float:
        """The share of images in which it would see the concept by guessing among its labels."""

    def __call__(self, images: Images, concept: Concept) -> Judgement:
        """Labels images by the members of the concept's kind, and of its partner's where the judge knows them."""


def judge_images(judge: Judge, images: Images, concept: Concept, batch: int | None = None) -> Judgement:
    """What a judge says of any number of images, `batch` at a time; default as many as are sampled at once."""
    return judge_chunks(judge, images.split(batch or RENDER_BATCH), concept)


def judge_chunks(judge: Judge, chunks: Iterable[Images], concept: Concept) -> Judgement:
    """What a judge says of the images of some chunks. One chunk at a time is in memory."""
    parts = [judge(chunk, concept) for chunk in chunks]
    seen = {kind: tuple(label for p in parts for label in p.seen[kind]) for kind in parts[0].seen}
    confidence = {kind: tuple(c for p in parts for c in p.confidence[kind]) for kind in parts[0].confidence}
    features = [p.features for p in parts if p.features is not None]
    scores = tuple(of for p in parts for of in p.scores)
    return Judgement(seen, torch.cat(features) if features else None, confidence, scores)


def best_label(logits: Float[Tensor, "b labels"]) -> tuple[list[int], tuple[float, ...]]:
    """The place of each image's highest logit, and its probability by softmax."""
    places = logits.argmax(1)
    return places.tolist(), tuple(logits.float().softmax(1).gather(1, places[:, None])[:, 0].tolist())


def embedding(out: object) -> Tensor:
    """transformers 5 wraps what 4 gave as a tensor."""
    return out if isinstance(out, Tensor) else out.pooler_output  # type: ignore[attr-defined]
