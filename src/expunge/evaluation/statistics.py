"""95 % intervals: for shares (Wilson), for means, and for whatever can be computed again (jackknife).

Each takes pictures (or pairs of pictures) for independent draws. Pictures of one prompt resemble each other, so for a world of
few prompts the intervals speak of new noise more than of new prompts. They do not cover the spread between training runs: for
that, repeat the run with other seeds and take `mean_interval` over runs.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)
"""1.96 standard errors to either side hold 95 % of a normal distribution."""


class Interval(NamedTuple):
    """A value and the 95 % interval that holds it."""

    value: float
    low: float
    high: float


def around(value: float, se: float) -> Interval:
    """value ± 1.96 standard errors."""
    return Interval(value, value - Z * se, value + Z * se)


def wilson(hits: int, n: int) -> Interval:
    """Wilson's score interval of the share p = hits / n (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22:209).

        (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)

    Unlike p ± 1.96 se it stays within [0, 1] and keeps its width when p is 0 or 1, where good unlearning lives.

    Raises:
        ValueError: no trials, or hits outside [0, n].
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"a share counts hits among trials: {hits} of {n}")
    return _wilson(hits / n, n)


def _wilson(p: float, n: float) -> Interval:
    scale = 1 + Z**2 / n
    centre = (p + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / scale
    # At p = 0 and p = 1 one end is p itself; rounding must not put it on the wrong side.
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def clustered(parts: Sequence[tuple[int, int]]) -> Interval:
    """Wilson's interval of a share that is pooled over groups, (hits, n) each, widened by as much as the groups differ.

        p = sum hits / sum n,    n_eff = n / max(1, d),    d = k / (k - 1) sum_i (n_i / n)^2 (p_i - p)^2 / (p (1 - p) / n)

    Pictures of one concept are lost together: to count each as a draw of its own would make the interval too narrow. d, the design
    effect (L. Kish, 1965), is the variance between k groups over what single draws would have; the effective size is that of E. L.
    Korn and B. I. Graubard (1998, Surv. Methodol. 24:193), without their correction for few groups. Where all groups agree, and for
    one group, it is Wilson's.

    Raises:
        ValueError: no trials, or hits outside [0, n].

    >>> [round(x, 2) for x in clustered([(50, 50), (25, 50)])], [round(x, 2) for x in wilson(75, 100)]
    ([0.75, 0.26, 0.96], [0.75, 0.66, 0.82])
    """
    hits, n, k = sum(h for h, _ in parts), sum(m for _, m in parts), len(parts)
    plain = wilson(hits, n)
    p = plain.value
    if k < 2 or not 0 < p < 1:
        return plain
    spread = k / (k - 1) * sum((m / n) ** 2 * (h / m - p) ** 2 for h, m in parts if m)
    effect = max(1.0, spread / (p * (1 - p) / n))
    return _wilson(p, n / effect)


def student(freedom: int) -> float:
    """Standard errors to either side that hold 95 % where the error itself is known from `freedom` + 1 values only: Student's t.

    By its closed form for 1 and 2 degrees of freedom, else by the expansion of R. A. Fisher and E. A. Cornish (1960, Technometrics 2:209),
    within 1 % from 3 up.

    >>> round(student(1), 2), round(student(2), 2), round(student(3), 2), round(student(15), 2), round(student(10**6), 2)
    (12.71, 4.3, 3.16, 2.13, 1.96)
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    powers = [Z**k for k in range(8)]
    first = (powers[3] + Z) / (4 * freedom)
    second = (5 * powers[5] + 16 * powers[3] + 3 * Z) / (96 * freedom**2)
    third = (3 * powers[7] + 19 * powers[5] + 17 * powers[3] - 15 * Z) / (384 * freedom**3)
    return Z + first + second + third


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The ratio of two means over the same units, R = mean(above) / mean(below), by the delta method, with Student's t for few units:

        R ± t(n - 1) s / (sqrt(n) |mean(below)|),    s the standard deviation of above_i - R below_i

    What pairs share cancels in s. Good where the mean below is many standard errors from 0; near 0 no ratio means anything.

    Raises:
        ValueError: fewer than two pairs, or means of unequal numbers.
    """
    if len(above) < 2 or len(above) != len(below):
        raise ValueError(f"a ratio's interval takes two pairs or more: {len(above)} above and {len(below)} below given")
    ratio = fmean(above) / fmean(below)
    spread = stdev([a - ratio * b for a, b in zip(above, below, strict=True)])
    half = student(len(above) - 1) * spread / (math.sqrt(len(above)) * abs(fmean(below)))
    return Interval(ratio, ratio - half, ratio + half)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean ± 1.96 s / sqrt(n), s the sample standard deviation (n - 1). Too narrow below some ten values: Student's t is wider.

    Raises:
        ValueError: fewer than two values, which have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"a mean's interval takes two values or more: {len(values)} given")
    return around(fmean(values), stdev(values) / math.sqrt(len(values)))


def student_interval(values: Sequence[float]) -> Interval:
    """Mean ± t(n - 1) s / sqrt(n): `mean_interval` where values are few.

    Raises:
        ValueError: fewer than two values, which have no spread.
    """
    value, _, high = mean_interval(values)
    return around(value, (high - value) / Z**2 * student(len(values) - 1))
