"""Metrics as papers print them, in features of networks that `--features` names, from real images (`--real`) or from the base model's.

Those of `distances` use the judge's features instead, which compare models under one judge and not with papers' tables.
"""

import math

import numpy as np
from jaxtyping import Float

from expunge.evaluation.metrics.base import RETAINED, Distance, Mean, Metric
from expunge.evaluation.metrics.description import Description, Network
from expunge.evaluation.metrics.distances import Frechet, Kernel
from expunge.evaluation.statistics import Interval


class _Gaussian(Distance):
    def between(self, ours: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"]) -> Interval:
        import torch

        from expunge.evaluation.metrics._kernel import cmmd

        return cmmd(torch.from_numpy(ours), torch.from_numpy(others), paired=self.about.from_base)


def _from_real(name: Network, what: str, meaning: str, paper: str, low: float = 0.0, column: str = "", scale: float = 1.0) -> Description:
    """A distance of retained images from real ones. Its network has the metric's name."""
    return Description(
        name=name,
        title=f"{what} of retained images from real ones; --features {name}=... --real FOLDER",
        plain=f"{name} to real images",
        meaning=f"{meaning} Measured between the run's images of the retain set and real images. Compare it with the base model's value at "
        "the same n.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("network", "real"),
        network=name,
        papers=(paper,),
        low=low,
        column=column,
        scale=scale,
    )


def _from_base(real: Description) -> Description:
    """The same distance from the base model's images of the same prompts and noise."""
    about = f"{real.name} to the base model"
    return Description(
        name=f"{real.name}_from_base",
        title=real.title.replace("real ones", "the base model's").replace(" --real FOLDER", "").rstrip(),
        plain=about,
        meaning=f"{real.name} between the run's and the base model's images of the retain set: any change.",
        form="distance",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("network", "base"),
        network=real.network,
        papers=real.papers,
        low=real.low,
        from_base=True,
        column=about + (" ×10³" if real.scale != 1 else ""),
        scale=real.scale,
    )


class FID(Frechet):
    """FID (arXiv 1706.08500) between the unlearned model's images of everything that should survive and real images.

    Choose it for a table beside published ones: name Inception's weights, and as many images and the same real ones as the paper. It is
    biased upwards with few images. On features of another network it is a Fréchet distance that compares with no paper.
    """

    about = _from_real(
        "FID",
        "Fréchet distance in Inception's features",
        "Fréchet inception distance: how far apart means and covariances of features are.",
        "1706.08500",
    )


class FIDFromBase(Frechet):
    """FID between the unlearned and the base model's images of everything that should survive, in Inception's features.

    Choose it to see any collateral change in the features of published FIDs; the base model scores 0. The pairing is ours.
    """

    about = _from_base(FID.about)


class KID(Kernel):
    """KID (arXiv 1801.01401) between the unlearned model's images of everything that should survive and real images.

    Choose it over FID when images are few or their number varies: it is unbiased. Tables show it times 1000, as papers often do.
    """

    about = _from_real(
        "KID",
        "kernel distance in Inception's features",
        "Kernel inception distance: the squared maximum mean discrepancy of features. Its mean does not depend on n.",
        "1801.01401",
        low=-math.inf,
        column="KID ×10³",
        scale=1e3,
    )


class KIDFromBase(Kernel):
    """KID between the unlearned and the base model's images of everything that should survive. The pairing is ours."""

    about = _from_base(KID.about)


class CMMD(_Gaussian):
    """CMMD (arXiv 2401.09603): 1000 MMD² of CLIP's image embeddings under a Gaussian kernel of width 10, against real images.

    Choose it over FID for modern models: it agrees better with people and needs fewer images. The paper's network is CLIP ViT-L/14 at 336
    pixels. Values are times 1000, as printed.
    """

    about = _from_real(
        "CMMD",
        "CLIP's maximum mean discrepancy",
        "Maximum mean discrepancy of CLIP's image embeddings, times 1000.",
        "2401.09603",
    )


class CMMDFromBase(_Gaussian):
    """CMMD between the unlearned and the base model's images of everything that should survive. The pairing is ours."""

    about = _from_base(CMMD.about)


class FDD(Frechet):
    """FDD, the Fréchet distance in DINOv2's features (arXiv 2306.04675), against real images.

    Choose it where FID disagrees with the eye: Inception knows ImageNet's classes alone. The paper's network is DINOv2 ViT-L/14. It is
    biased upwards with few images, as FID.
    """

    about = _from_real(
        "FDD",
        "Fréchet distance in DINOv2's features",
        "Fréchet distance of DINOv2's features of the class token.",
        "2306.04675",
    )


class FDDFromBase(Frechet):
    """FDD between the unlearned and the base model's images of everything that should survive. The pairing is ours."""

    about = _from_base(FDD.about)


class CLIPScore(Mean):
    """CLIP score of retained images and their prompts: 100 max(cos, 0) of CLIP's embeddings (arXiv 2104.08718, whose weight is 2.5).

    Choose it to see whether retained images still show what prompts say, without a judge of the concepts. Papers differ in the network:
    ViT-B/32, B/16 and L/14 give other values. Prompts are cut to what CLIP reads, 77 tokens.
    """

    about = Description(
        name="CLIP_score",
        title="agreement of retained images with their prompts; --features CLIP_score=...",
        plain="CLIP score",
        meaning="100 times the cosine of CLIP's embeddings of an image and of its prompt, mean over the retain set.",
        form="mean",
        better="higher",
        aim="retain",
        probes=RETAINED,
        needs=("network",),
        network="CLIP_score",
        papers=("2104.08718",),
        high=100.0,
        column="CLIP score",
    )


class CLIPScoreTarget(Mean):
    """CLIP score of the target's images and their prompts: lower where the concept is gone.

    Choose it beside UA to compare with papers that print it for erased concepts. A low value does not say what was lost.
    """

    about = Description(
        name="CLIP_score_target",
        title="agreement of target images with their prompts; --features CLIP_score=...",
        plain="CLIP score of the target",
        meaning="100 times the cosine of CLIP's embeddings of an image and of its prompt, mean over prompts with the concept's name.",
        form="mean",
        better="lower",
        aim="forget",
        probes=("target",),
        needs=("network",),
        network="CLIP_score",
        papers=("2104.08718",),
        high=100.0,
        column="CLIP score, target",
    )


class LPIPSUnerased(Mean):
    """LPIPS (arXiv 1801.03924) between the unlearned and the base model's image of the same prompt and noise, retained prompts.

    Choose it to see change that no label shows: papers print it as LPIPS_u, for unerased concepts. AlexNet is the usual network.
    """

    about = Description(
        name="LPIPS_u",
        title="perceptual distance of retained images from the base model's of the same noise; --features LPIPS=...",
        plain="LPIPS of the rest",
        meaning="LPIPS between the base model's and the run's image of the same prompt and noise, mean over the retain set.",
        form="mean",
        better="lower",
        aim="retain",
        probes=RETAINED,
        needs=("network",),
        network="LPIPS",
        papers=("1801.03924",),
        from_base=True,
    )


class LPIPSErased(Mean):
    """LPIPS between the unlearned and the base model's image of the same prompt and noise, the target's prompts.

    Papers print it as LPIPS_e, for erased concepts, and call more better: the images should have changed.
    """

    about = Description(
        name="LPIPS_e",
        title="perceptual distance of target images from the base model's of the same noise; --features LPIPS=...",
        plain="LPIPS of the target",
        meaning="LPIPS between the base model's and the run's image of one prompt and noise, mean over prompts with the concept's name.",
        form="mean",
        better="higher",
        aim="forget",
        probes=("target",),
        needs=("network",),
        network="LPIPS",
        papers=("1801.03924",),
        from_base=True,
    )


PUBLISHED: tuple[Metric, ...] = (
    FID(),
    KID(),
    CMMD(),
    FDD(),
    CLIPScore(),
    CLIPScoreTarget(),
    LPIPSUnerased(),
    LPIPSErased(),
    FIDFromBase(),
    KIDFromBase(),
    CMMDFromBase(),
    FDDFromBase(),
)
