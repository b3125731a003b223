"""95 % intervals for shares, means and ratios, and the paired change between two models on the same images.

Functions that need scipy and numpy import them, so that reading results starts fast.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

LEVEL = 0.95
"""The coverage of every interval; a change is significant where its p-value is below one minus this."""
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Half-width of the central 95 % of a normal distribution, in standard deviations: 1.96."""


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def widened(self, level: float) -> "Interval":
        """The interval at a higher level, of a value whose error is normal."""
        times = _z(level) / Z
        return Interval(self.value, self.value - times * (self.value - self.low), self.value + times * (self.high - self.value))


def level_of(looks: int) -> float:
    """The level of each interval where results are looked at `looks` times and the last look may come early.

    By the union bound, if each of them misses with probability (1 - 0.95) / looks, the probability that any of them misses is at most 5 %,
    so an interval covers at 95 % whatever rule chose the look, and however the looks depend on each other.
    """
    return LEVEL if looks == 1 else 1 - (1 - LEVEL) / looks


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


class PairedChange(NamedTuple):
    """How a share differs between two models that made the same images: equal prompts, equal noise."""

    value: float
    """The run's share minus the base model's."""
    low: float
    high: float
    losses: int
    """Images that count as right with the base model and as wrong with the run."""
    gains: int
    """Images that count as wrong with the base model and as right with the run."""
    p: float
    """Probability of a change at least this large, in either direction, if the run changed nothing."""

    @property
    def is_significant(self) -> bool:
        """Whether p is below 5 %. The exact test decides, also where the interval, an approximation, says otherwise."""
        return self.p < 1 - LEVEL


def around(value: float, se: float) -> Interval:
    """value ± 1.96 standard errors."""
    return Interval(value, value - Z * se, value + Z * se)


def wilson(hits: int, n: int) -> Interval:
    """Wilson's score interval of the share p = hits / n of independent trials (E. B. Wilson, 1927, J. Am. Stat. Assoc. 22:209).

        (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)

    Unlike p ± 1.96 se it stays within [0, 1] and keeps its width when p is 0 or 1, where good unlearning lies.

    Raises:
        ValueError: no trials, or hits outside [0, n].
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"a share counts hits among trials: {hits} of {n}")
    return _wilson(hits / n, n)


def _wilson(p: float, n: float) -> Interval:
    """Wilson's interval for any n. `scipy.stats.binomtest` is for integers only, and an effective sample size is no integer."""
    scale = 1 + Z**2 / n
    centre = (p + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / scale
    # At p = 0 and p = 1 one end is p itself; rounding must not put it on the wrong side.
    return Interval(p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


def exact(p: float, n: float, level: float = LEVEL) -> Interval:
    """The interval of a share p of n trials that covers at `level` or more (C. J. Clopper and E. S. Pearson, 1934, Biometrika 26:404).

        beta(a/2; np, n - np + 1)  to  beta(1 - a/2; np + 1, n - np),    a = 1 - level, quantiles of the beta distribution

    Wider than Wilson's at the same level, which near 0 and 1 covers less than it says: several looks would add that up. n may be an
    effective size, which is no integer (E. L. Korn and B. I. Graubard, 1998).

    >>> [round(x, 3) for x in exact(1.0, 60, 0.99)]
    [1.0, 0.915, 1.0]
    """
    from scipy.stats import beta

    tail, hits = (1 - level) / 2, p * n
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Interval(p, min(p, low), max(p, high))


def clustered(parts: Sequence[tuple[int, int]], looks: int = 1) -> Interval:
    """Wilson's interval of a share over groups, (hits, n) each, widened by as much as the groups differ.

        p = sum hits / sum n,    n_eff = n / max(1, d),    d = k / (k - 1) sum_i (n_i / n)^2 (p_i - p)^2 / (p (1 - p) / n)

    Images of one prompt, or of one concept, resemble each other: to count each as an independent trial would make the interval too
    narrow. d, the design effect (L. Kish, 1965), is the cluster-robust variance of the share over k groups, relative to that of
    independent trials; n_eff is the effective size of E. L. Korn and B. I. Graubard (1998, Surv. Methodol. 24:193), without their
    correction for few groups, which makes an interval of two or three groups useless and misses hardly less often.

    It is Wilson's interval for one group, where all groups agree, and where each group is a single image. In simulations of shares
    near 90 % in 20 groups of 20, strongly correlated (0.2), it misses the true share 8 % of the time, where Wilson's misses 39 %. With
    few groups it is still too narrow: with six of those it misses 14 %, with three a quarter.

    Args:
        looks: how often results are looked at, each time with more images. With several, the interval is that of `exact` for the
            effective size, at the level of `level_of`.

    Raises:
        ValueError: no trials, or hits outside [0, n].

    >>> [round(x, 2) for x in clustered([(50, 50), (25, 50)])], [round(x, 2) for x in wilson(75, 100)]
    ([0.75, 0.26, 0.96], [0.75, 0.66, 0.82])
    """
    hits, n = sum(h for h, _ in parts), sum(m for _, m in parts)
    plain = wilson(hits, n)
    p = plain.value
    effect = _design_effect(parts, p * (1 - p))
    if looks > 1:
        return exact(p, n / effect, level_of(looks))
    return _wilson(p, n / effect) if effect > 1 else plain


def _design_effect(parts: Sequence[tuple[int, int]], variance: float) -> float:
    """The cluster-robust variance of a mean over groups, (sum, n) each, relative to `variance` / n; at least 1, and 1 of single images."""
    n, k = sum(m for _, m in parts), len(parts)
    if k < 2 or k == n or variance <= 0:
        return 1.0
    mean = sum(s for s, _ in parts) / n
    spread = k / (k - 1) * sum((m / n) ** 2 * (s / m - mean) ** 2 for s, m in parts if m)
    return max(1.0, spread / (variance / n))


def grouped(hits: Sequence[bool], groups: Sequence[Hashable]) -> list[tuple[int, int]]:
    """(hits, n) of each group, for `clustered`: entry i of both arguments belongs to image i.

    >>> grouped([True, False, True], ["a ring", "a ring", "a disc"])
    [(1, 2), (1, 1)]
    """
    found: dict[Hashable, list[bool]] = defaultdict(list)
    for hit, group in zip(hits, groups, strict=True):
        found[group].append(hit)
    return [(sum(of), len(of)) for of in found.values()]


def paired_change(run: Sequence[bool], base: Sequence[bool], groups: Sequence[Hashable], looks: int = 1) -> PairedChange:
    """The change of a share between two models, from which of the same images are right with each; `groups` says which belong together.

    Images that are alike with both models cancel, so a change shows with far fewer images than two separate intervals need. With b
    losses and c gains among n images, D = (c - b) / n. The interval is D. G. Bonett and R. M. Price's (2012, J. Educ. Behav. Stat. 37:479),
    Wald's after one loss and one gain are added, with all counts divided by the design effect d of the images' changes (-1, 0 or 1)
    over groups, as in `clustered`:

        D' ± z sqrt((p' + q' - (p' - q')²) / (n' + 2)),    p' = (b/d + 1) / (n' + 2), q' = (c/d + 1) / (n' + 2), n' = n/d, D' = q' - p'

    It keeps its width where no image changed. The p-value is exact: if the run changed nothing, the two models' labels may be
    exchanged in any group, so each group's net change is as likely with the other sign, and p is the share of all 2^k choices of signs
    whose sum is at least as far from 0 (R. A. Fisher's randomization test). Where each group is one image it is McNemar's exact test.

    Args:
        looks: how often results are looked at, each time with more images. The interval then has the level of `level_of`, and p is
            multiplied by the number of looks.

    Raises:
        ValueError: no images, or sequences of unequal length.

    >>> paired_change([True] * 92 + [False] * 8, [True] * 98 + [False] * 2, range(100)).p  # 6 losses, no gain: 2 / 2^6
    0.03125
    """
    changes = [int(after) - int(before) for after, before in zip(run, base, strict=True)]
    if not changes:
        raise ValueError("a paired change takes one image or more: none given")
    n, losses, gains = len(changes), changes.count(-1), changes.count(1)
    sums: dict[Hashable, list[int]] = defaultdict(list)
    for change, group in zip(changes, groups, strict=True):
        sums[group].append(change)
    value = (gains - losses) / n
    effect = _design_effect([(sum(of), len(of)) for of in sums.values()], (losses + gains) / n - value**2)
    size = n / effect + 2
    lost, gained = (losses / effect + 1) / size, (gains / effect + 1) / size
    z = Z if looks == 1 else _z(level_of(looks))
    centre, half = gained - lost, z * math.sqrt((lost + gained - (gained - lost) ** 2) / size)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return PairedChange(
        value, min(value, low), max(value, high), losses, gains, min(1.0, looks * _exchanged([sum(of) for of in sums.values()]))
    )


def _exchanged(sums: Sequence[int]) -> float:
    """The share of all choices of signs under which the sum is at least as far from 0 as it is."""
    import numpy as np

    reach = sum(map(abs, sums))
    chances = np.zeros(2 * reach + 1)  # entry i is the probability of the sum i - reach over the groups so far
    chances[reach] = 1.0
    for step in filter(None, map(abs, sums)):
        further = np.zeros_like(chances)
        further[step:] += chances[:-step] / 2
        further[:-step] += chances[step:] / 2
        chances = further
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(sum(sums))
    return min(1.0, float(chances[far].sum()))


def student(freedom: int) -> float:
    """Standard errors to either side that hold 95 % where the error itself is known from `freedom` + 1 values only: Student's t.

    >>> round(student(1), 2), round(student(2), 2), round(student(3), 2), round(student(15), 2), round(student(10**6), 2)
    (12.71, 4.3, 3.18, 2.13, 1.96)
    """
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The ratio of two means over the same units, R = mean(above) / mean(below), by the delta method, with Student's t for few units:

        R ± t(n - 1) s / (sqrt(n) |mean(below)|),    s the standard deviation of above_i - R below_i

    What the two values of a unit have in common cancels in s. The mean below must be many standard errors away from 0.

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


def clustered_mean(values: Sequence[float], groups: Sequence[Hashable]) -> Interval:
    """`mean_interval` of values that belong together in groups, as images of one prompt do: mean ± 1.96 se, with

        se² = k / (k - 1) sum_i (n_i / n)² (m_i - m)²,    m_i the mean of the n_i values of group i of k, m that of all n

    It is `mean_interval` where each group is one value, or there is only one group.

    Raises:
        ValueError: fewer than two values.

    >>> clustered_mean([1, 1, 3, 3], "aabb") == around(2, 1.0), clustered_mean([1, 1, 3, 3], "abcd") == mean_interval([1, 1, 3, 3])
    (True, True)
    """
    n, of = len(values), defaultdict[Hashable, list[float]](list)
    for value, group in zip(values, groups, strict=True):
        of[group].append(value)
    k, mean = len(of), fmean(values)
    if k < 2 or k == n:
        return mean_interval(values)
    return around(mean, math.sqrt(k / (k - 1) * sum((len(g) / n) ** 2 * (fmean(g) - mean) ** 2 for g in of.values())))


def student_interval(values: Sequence[float]) -> Interval:
    """Mean ± t(n - 1) s / sqrt(n): `mean_interval` where values are few.

    Raises:
        ValueError: fewer than two values, which have no spread.
    """
    value, _, high = mean_interval(values)
    return around(value, (high - value) / Z**2 * student(len(values) - 1))
