"""Whether images that are sampled in half precision give the same labels: a paired sample decides, before an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import Protocol, Shot, plan, spread
from expunge.evaluation.settings import Settings
from expunge.evaluation.statistics import Interval, clustered
from expunge.models.base import DiffusionModel
from expunge.models.precision import DTYPES

COMPARED = 24
"""Images of each concept and each of both models that are sampled in both precisions: one half of the concept, one half of its siblings.
They are images of the evaluation, so only those in full precision are additional."""

LEAST = 0.95
"""The share of the images whose labels must agree, by every judge."""


@dataclass(frozen=True)
class Agreement:
    """How often a judge labels an image as it does in full precision."""

    judge: str
    same: int
    compared: int
    interval: Interval
    """The share, with its 95 % interval: images of both models from one prompt and one noise are a group."""

    def note(self, half: str, full: str) -> str:
        """A sentence for the notes of an evaluation."""
        share = f"{self.interval.value:.0%} (95 % interval {self.interval.low:.0%} to {self.interval.high:.0%})"
        return (
            f"Images were sampled in {half}. The judge {self.judge} gave {self.same} of {self.compared} images that were also sampled in "
            f"{full} the same labels: {share}."
        )


def half_precision(dtype: str | None, model: DiffusionModel, *, has_judge: bool) -> str | None:
    """The precision in which an evaluation samples images; None where it is that of the model.

    Raises:
        ExpungeError: rule "unknown-dtype", it is neither bf16 nor fp16; "half-without-judge", nothing could compare the images.
    """
    halves = [name for name in DTYPES if name != "fp32"]
    if dtype not in (None, *halves):
        raise ExpungeError(
            f"Images cannot be sampled in {dtype!r} for an evaluation.",
            rule="unknown-dtype",
            value=dtype,
            hint=f"Try {' or '.join(halves)}, or leave --render-dtype out.",
        )
    if dtype is None or dtype == model.precision:
        return None
    if not has_judge:
        raise ExpungeError(
            f"Without a judge nothing can say whether images in {dtype} give the same verdict.",
            rule="half-without-judge",
            value=dtype,
            hint="Try --judge, or leave --render-dtype out.",
        )
    return dtype


def compared_shots(concept: Concept, protocol: Protocol) -> list[Shot]:
    """The images that are sampled in both precisions: at most `COMPARED`, spread over the prompts."""
    every = plan(concept, protocol)
    groups = [group for probe in ("target", "siblings") if (group := [s for s in every if s.probe == probe])]
    return [shot for group in groups for shot in spread(group, min(COMPARED // len(groups), len(group)))]


def compare(settings: Settings, delta: Mapping[str, Tensor], concepts: Sequence[Concept]) -> list[Agreement]:
    """Samples images by both models in both precisions, and compares each judge's labels over all concepts.

    Raises:
        ExpungeError: rule "half-disagrees", fewer than `LEAST` of some judge's labels agree.
    """
    whole = replace(settings, render_dtype=None)
    found: dict[str, list[tuple[int, int]]] = {judge.name: [] for judge in settings.judges}
    for concept in concepts:
        shots = compared_shots(concept, settings.protocol)
        images = [
            (whole.render(weights, shots, f"images of {who} in full precision"), settings.render(weights, shots, f"images of {who}"))
            for weights, who in (({}, "the base model"), (delta, "the unlearned model"))
        ]
        for judge in settings.judges:
            same = [0] * len(shots)
            for pair in images:
                full, half = (settings.labels(judge, files, concept).seen for files in pair)
                for i in range(len(shots)):
                    same[i] += all(full[kind][i] == half[kind][i] for kind in full)
            found[judge.name] += [(count, len(images)) for count in same]
    agreements = [
        Agreement(name, sum(s for s, _ in groups), sum(n for _, n in groups), clustered(groups)) for name, groups in found.items()
    ]
    worst = min(agreements, key=lambda a: a.interval.value)
    if worst.interval.value < LEAST:
        raise ExpungeError(
            f"The judge {worst.judge} gave only {worst.same} of {worst.compared} images in {settings.render_dtype} the labels that it gave "
            f"them in {settings.session.model.precision}. At least {LEAST:.0%} are required.",
            rule="half-disagrees",
            value=round(worst.interval.value, 3),
            hint="Try another --render-dtype, or leave it out.",
        )
    return agreements
