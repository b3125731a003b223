"""Fréchet distance between two sets of features (FID, arXiv 1706.08500).

The features are the judge's, not Inception's: numbers compare between models under one judge, not with papers' tables.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.evaluation.metrics._jackknife import jackknife_se
from expunge.evaluation.metrics.base import Distance
from expunge.evaluation.statistics import Interval, around


def fid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """||μx - μy||² + tr Sx + tr Sy - 2 tr (Sx^½ Sy Sx^½)^½, in double precision; S with n - 1.

    With Sx = A'A and Sy = B'B the last trace is the sum of the singular values of A B', whichever roots A and B are. QR of the
    centred features gives them without forming a covariance, so that fewer pictures than features, where both covariances
    are singular, is no special case, and no rounding error is magnified by a root of an eigenvalue near 0.

    FID is biased upwards by sampling noise, the more the fewer pictures and the more features (about const / n; arXiv
    1911.07023): two samples of one distribution are at a distance above 0. Compare only at equal n; KID has no such bias.

    Raises:
        ValueError: fewer than two pictures in a set.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance takes two pictures or more: {len(x)} and {len(y)} given")
    x, y = x.cpu().double(), y.cpu().double()
    a, b = _root(x), _root(y)
    gap = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, gap.item())


def _root(x: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
    """R with R'R the covariance of `x`."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R


def fid_interval(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, paired: bool) -> Interval:
    """FID ± 1.96 jackknife standard errors: how far another draw of as many pictures would move it, not how biased it is.

    Raises:
        ValueError: fewer than three pictures in a set.
    """
    return around(fid(x, y), jackknife_se(fid, x, y, paired=paired))


class FIDBase(Distance):
    """FID between the unlearned and the untouched model's pictures of everything that should survive.

    Choose it to see collateral change of any sort, wanted labels or not; an untouched model scores 0. The pictures are
    paired (same prompts, same noise), and so is the jackknife. Small-sample bias: see `fid`. The pairing is ours.
    """

    name = "FID_base"
    title = "Fréchet distance of retained pictures from the untouched model's"
    paired = True
    between = staticmethod(fid_interval)


class FIDDrawn(Distance):
    """FID between the unlearned model's pictures of everything that should survive and fresh real pictures.

    Choose it to see quality: a model may differ from the untouched one and be as good. Read it beside the untouched model's
    own value at equal n, which is not 0. Small-sample bias: see `fid`.
    """

    name = "FID_drawn"
    title = "Fréchet distance of retained pictures from real ones"
    paired = False
    between = staticmethod(fid_interval)
