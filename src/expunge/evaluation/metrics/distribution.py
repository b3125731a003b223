"""Whether images show anything natural, whatever their prompts name."""

from collections.abc import Mapping
from dataclasses import replace

from expunge.evaluation.metrics.base import Evidence, Score, Share
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.results import NOTHING, Sample


class OOD(Share):
    """Out-of-distribution rate: share of the target's images in which the judge recognises no member of any kind.

    Choose it beside UA, which counts a smudge or a caricature as unlearned: here these are the images that count. The judge rejects an
    image if, in one of the kinds that it labels, its confidence is below that in 99 % of the base model's images of what should remain.
    The base model's own value is the judge's rate of false rejections, on images that the threshold has not seen.

    A judge without confidences gives no number, and neither do fewer than 99 images of what should remain (the budget quick). Where images
    change far from anything that the judge was trained on, it may be sure of a label all the same: 0 is no proof of natural images. On the
    canvas the main judge rejects 99 % of drawings that are two members averaged, 98 % of strongly blurred ones and 83 % of slightly
    blurred ones; the second 97, 90 and 48 % (docs/how-to/judge.md).

    Source: arXiv 1610.02136 (maximum softmax probability). The level of 1 %, the calibration on the base model's images and the least over
    kinds are ours.
    """

    about = Description(
        name="OOD",
        title="target images in which the judge recognises no member of any kind",
        plain="Images of no known member",
        meaning="Out-of-distribution rate: the share of images of prompts with the concept's name in which the judge is less sure of its "
        "labels than in 99 % of the base model's images of other prompts. Smudges and caricatures count here, natural images of "
        "something else do not. The base model's value shows how often the judge rejects a good image.",
        form="share",
        better="lower",
        probes=("target",),
        needs=("labels",),
        papers=("1610.02136",),
        high=1.0,
    )

    def is_right(self, sample: Sample, seen: Mapping[str, str]) -> bool | None:
        return NOTHING in seen.values() if seen else None

    def __call__(self, evidence: Evidence) -> list[Score]:
        def judged(sample: Sample) -> Sample:
            sides = (sample.seen, sample.rejected), (sample.base, sample.base_rejected)
            seen, base = ({} if no is None else dict.fromkeys(of, NOTHING) if no else of for of, no in sides)
            return replace(sample, seen=seen, base=base)

        return super().__call__(replace(evidence, samples=tuple(map(judged, evidence.samples))))
