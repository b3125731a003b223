"""Distances between the judge's features of the images that should survive and of others (FID, KID).

The features are the judge's, not Inception's: numbers compare between models under one judge, not with papers' tables.
"""

import math

import numpy as np
from jaxtyping import Float

from expunge.evaluation.metrics.base import RETAINED, Distance
from expunge.evaluation.metrics.description import Description
from expunge.evaluation.statistics import Interval


class Frechet(Distance):
    """The Fréchet distance (arXiv 1706.08500). Biased upwards with few images: see `_frechet.fid`."""

    def between(self, ours: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"]) -> Interval:
        import torch

        from expunge.evaluation.metrics._frechet import fid_interval

        return fid_interval(torch.from_numpy(ours), torch.from_numpy(others), paired=self.about.from_base)


class Kernel(Distance):
    """The kernel distance (arXiv 1801.01401). Unbiased with any number of images: see `_kernel.kid`."""

    def between(self, ours: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"]) -> Interval:
        import torch

        from expunge.evaluation.metrics._kernel import kid

        return kid(torch.from_numpy(ours), torch.from_numpy(others), paired=self.about.from_base)


class FIDBase(Frechet):
    """FID between the unlearned and the base model's images of everything that should survive.

    Choose it to see collateral change of any sort, wanted labels or not; the base model itself scores 0. The images are
    paired (same prompts, same noise), and so is the jackknife. The pairing is ours.
    """

    about = Description(
        name="FID_base",
        title="Fréchet distance of retained images from the base model's",
        plain="Fréchet distance to the base model",
        meaning="Fréchet distance, in the judge's features, between the base model's and the run's images of the retain set: any "
        "change. It falls as n grows.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("features", "base"),
        papers=("1706.08500",),
        from_base=True,
        column="FID to base",
    )


class FIDDrawn(Frechet):
    """FID between the unlearned model's images of everything that should survive and fresh real images.

    Choose it to see quality: a model may differ from the base model and be as good. Read it beside the base model's own value at
    equal n, which is not 0.
    """

    about = Description(
        name="FID_drawn",
        title="Fréchet distance of retained images from real ones",
        plain="Fréchet distance to real images",
        meaning="Fréchet distance between generated and real images of the retain set: quality. Compare it with the base model's value "
        "at the same n only.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("features", "drawings"),
        papers=("1706.08500",),
        column="FID to drawings",
    )


class KIDBase(Kernel):
    """KID between the unlearned and the base model's images of everything that should survive.

    Choose it over FID_base when images are few or their number varies. The images are paired (same prompts, same noise):
    the base model itself scores 0. The pairing is ours.
    """

    about = Description(
        name="KID_base",
        title="kernel distance of retained images from the base model's",
        plain="Kernel distance to the base model",
        meaning="Kernel distance between the base model's and the run's images of the retain set: any change. Its mean does not depend "
        "on n, and it can be slightly below 0.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("features", "base"),
        papers=("1801.01401",),
        low=-math.inf,
        from_base=True,
        column="KID to base ×10³",
        scale=1e3,
    )


class KIDDrawn(Kernel):
    """KID between the unlearned model's images of everything that should survive and fresh real images.

    Choose it over FID_drawn when images are few or their number varies. Read it beside the base model's own value.
    """

    about = Description(
        name="KID_drawn",
        title="kernel distance of retained images from real ones",
        plain="Kernel distance to real images",
        meaning="Kernel distance between generated and real images of the retain set: quality. Compare it with the base model's value.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("features", "drawings"),
        papers=("1801.01401",),
        low=-math.inf,
        column="KID to drawings ×10³",
        scale=1e3,
    )
