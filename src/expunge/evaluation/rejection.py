"""Whether a judge recognises any member at all in an image, by its confidence. Imports no torch."""

import math
from collections.abc import Mapping, Sequence

LEVEL = 0.01
"""The share of images with a known member that may be rejected."""


def lowest(confidence: Mapping[str, Sequence[float]]) -> list[float]:
    """The least of a judge's confidences in an image, over kinds, for each image. Empty without confidences."""
    return [min(of) for of in zip(*confidence.values(), strict=True)]


def find_threshold(members: Sequence[float]) -> float | None:
    """The confidence below which an image is rejected, from the confidences in images that show what their prompts name.

        threshold = the k-th least of the n confidences, k = floor(LEVEL (n + 1))

    Of further such images at most a share `LEVEL` is rejected on average, whatever their distribution (split conformal prediction). Fewer
    than 99 images cannot tell 1 % apart: then there is no threshold.

    Source: arXiv 1610.02136 for the maximum softmax probability as the score of images of no known class; arXiv 2107.07511,
    section 1, for the order statistic. Ours is the least over several kinds.
    """
    k = math.floor(LEVEL * (len(members) + 1))
    return sorted(members)[k - 1] if k else None
