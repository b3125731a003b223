"""Kernel distance between two sets of features (KID, arXiv 1801.01401): unbiased at any number of images.

The features are the judge's, not Inception's. Values are squared MMDs as they are; papers often print them times 1000.
"""

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
