"""Fréchet distance between two sets of features (FID, arXiv 1706.08500).

The features are the judge's, not Inception's: numbers compare between models under one judge, not with papers' tables.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.evaluation.metrics._jackknife import jackknife_se
from expunge.evaluation.statistics import Interval, around


def fid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """||μx - μy||² + tr Sx + tr Sy - 2 tr (Sx^½ Sy Sx^½)^½, in double precision; S with n - 1.

    With Sx = A'A and Sy = B'B the last trace is the sum of the singular values of A B', whichever roots A and B are. QR of the
    centred features gives them without forming a covariance, so that fewer images than features, where both covariances
    are singular, is no special case, and no rounding error is magnified by a root of an eigenvalue near 0.

    FID is biased upwards by sampling noise, the more the fewer images and the more features (about const / n; arXiv
    1911.07023): two samples of one distribution are at a distance above 0. Compare only at equal n; KID has no such bias.

    Raises:
        ValueError: fewer than two images in a set.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance takes two images or more: {len(x)} and {len(y)} given")
    x, y = x.cpu().double(), y.cpu().double()
    a, b = _root(x), _root(y)
    gap = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, gap.item())


def _root(x: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
    """R with R'R the covariance of `x`."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R


def fid_interval(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, paired: bool) -> Interval:
    """FID ± 1.96 jackknife standard errors: how far another draw of as many images would move it, not how biased it is.

    Raises:
        ValueError: fewer than three images in a set.
    """
    return around(fid(x, y), jackknife_se(fid, x, y, paired=paired))
