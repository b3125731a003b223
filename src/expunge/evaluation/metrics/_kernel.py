"""Kernel distances between two sets of features: KID (arXiv 1801.01401), unbiased at any number of images, and CMMD (arXiv 2401.09603).

Values of KID are squared MMDs as they are; papers often print them times 1000. CMMD is times 1000 by definition.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.evaluation.metrics._jackknife import jackknife_variance
from expunge.evaluation.statistics import Interval, around


def polynomial_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """k(x, y) = (x·y / d + 1)³, KID's kernel (arXiv 1801.01401)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def kid(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, paired: bool) -> Interval:
    """Squared MMD under `polynomial_kernel`, an unbiased U-statistic ± 1.96 jackknife standard errors, in double precision.

    Not paired: mean k(x_i, x_j), i ≠ j, plus mean k(y_i, y_j), i ≠ j, less twice mean k(x_i, y_j) (Gretton et al., 2012,
    JMLR 13:723, lemma 6). Paired, row i of both belonging together: the same without the k(x_i, y_i), since x_i and y_i are
    not independent; equal sets then give 0. That use is ours, of the lemma's form for equal numbers.

    Unbiased means that the value is 0 on average, hence often negative, when both sets are of one distribution. All images
    are used at once, where the KID paper averages over subsets: the same expectation with less noise. The jackknife (one
    image, or pair, left out at a time) is ours.

    Raises:
        ValueError: fewer than three images in a set; paired sets of unequal length.
    """
    n, m = len(x), len(y)
    if min(n, m) < 3 or (paired and n != m):
        raise ValueError(f"a jackknifed U-statistic takes three images or more, as many on both sides if paired: {n} and {m} given")
    x, y = x.cpu().double(), y.cpu().double()
    xx, yy, xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    xx.fill_diagonal_(0)
    yy.fill_diagonal_(0)
    if paired:
        xy.fill_diagonal_(0)
        rows = (xx + yy - xy - xy.T).sum(1)
        value = rows.sum() / (n * (n - 1))
        variance = jackknife_variance((rows.sum() - 2 * rows) / ((n - 1) * (n - 2)), n)
    else:

        def mmd2(within_x: Tensor, within_y: Tensor, across: Tensor, n: int, m: int) -> Tensor:
            return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)

        value = mmd2(xx.sum(), yy.sum(), xy.sum(), n, m)
        variance = jackknife_variance(mmd2(xx.sum() - 2 * xx.sum(1), yy.sum(), xy.sum() - xy.sum(1), n - 1, m), n)
        variance += jackknife_variance(mmd2(xx.sum(), yy.sum() - 2 * yy.sum(1), xy.sum() - xy.sum(0), n, m - 1), m)
    return around(value.item(), variance**0.5)


SIGMA = 10.0
"""The bandwidth of CMMD's kernel."""


def gaussian_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """k(x, y) = exp(-||x - y||² / (2 σ²)) with σ = 10, CMMD's kernel (arXiv 2401.09603)."""
    return torch.exp(-torch.cdist(x, y).square() / (2 * SIGMA**2))


def cmmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, paired: bool) -> Interval:
    """1000 MMD² under `gaussian_kernel` of features of length 1, ± 1.96 jackknife standard errors, in double precision.

    The V-statistic of the authors' code, mean k(x, x') + mean k(y, y') - 2 mean k(x, y), with pairs of an image with itself. It is at
    least 0, and biased upwards by about 1000 (1 - mean k) / n for each set, which is little: features have length 1, so k is above 0.98.
    The jackknife (one image, or pair, left out at a time) is ours.

    Raises:
        ValueError: fewer than three images in a set; paired sets of unequal length.
    """
    n, m = len(x), len(y)
    if min(n, m) < 3 or (paired and n != m):
        raise ValueError(f"a jackknifed distance takes three images or more, as many on both sides if paired: {n} and {m} given")
    x, y = (torch.nn.functional.normalize(features.cpu().double(), dim=1) for features in (x, y))
    xx, yy, xy, yx = (_row_sums(a, b, gaussian_kernel) for a, b in ((x, x), (y, y), (x, y), (y, x)))

    def mmd2(within_x: Tensor, within_y: Tensor, across: Tensor, n: int, m: int) -> Tensor:
        return 1000 * (within_x / n**2 + within_y / m**2 - 2 * across / (n * m))

    value = mmd2(xx.sum(), yy.sum(), xy.sum(), n, m)
    fewer_x, fewer_y = xx.sum() - 2 * xx + 1, yy.sum() - 2 * yy + 1  # k(x, x) = 1 was subtracted twice
    if paired:
        own = torch.exp(-(x - y).square().sum(1) / (2 * SIGMA**2))  # k(x_i, y_i)
        left_out = mmd2(fewer_x, fewer_y, xy.sum() - xy - yx + own, n - 1, n - 1)
        variance = jackknife_variance(left_out, n)
    else:
        variance = jackknife_variance(mmd2(fewer_x, yy.sum(), xy.sum() - xy, n - 1, m), n)
        variance += jackknife_variance(mmd2(xx.sum(), fewer_y, xy.sum() - yx, n, m - 1), m)
    return around(value.item(), variance**0.5)


def _row_sums(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Callable[[Tensor, Tensor], Tensor], rows: int = 1024
) -> Float[Tensor, " n"]:
    """Sums of k(x_i, y_j) over j. Only `rows` of the kernel's rows are in memory at a time, so that tens of thousands of images fit."""
    return torch.cat([kernel(part, y).sum(1) for part in x.split(rows)])
