import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t

from expunge.evaluation.metrics._jackknife import jackknife_se, jackknife_variance
from expunge.evaluation.statistics import (
    Z,
    around,
    clustered,
    mean_interval,
    ratio_interval,
    student,
    student_interval,
    wilson,
)


def test_wilson_by_hand():
    # z² = 3.84146. p = 0: centre = half = (z²/20)/(1 + z²/10), so the interval is [0, z²/(10 + z²)] = [0, 3.84146/13.84146].
    assert wilson(0, 10) == pytest.approx((0, 0, 0.277533), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((1, 0.722467, 1), abs=1e-6)
    # p = 1/2: centre 1/2, half = z/(2 sqrt(n + z²)) = 1.959964/(2 · 3.720411).
    assert wilson(5, 10) == pytest.approx((0.5, 0.236593, 0.763407), abs=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(1, 3), (37, 41), (299, 300)])
def test_wilson_ends_are_the_shares_that_n_trials_would_just_not_reject(hits, n):
    p, *ends = wilson(hits, n)
    for end in ends:
        assert abs(p - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n))


def test_groups_that_differ_widen_a_share_and_groups_that_agree_do_not():
    """By hand: p = 3/4 of 100 in two groups of 50 with 1 and 1/2, d = 2 (1/4 1/16 + 1/4 1/16) / (3/16 / 100) = 100/3, so n_eff = 3."""
    assert clustered([(50, 50), (25, 50)]) == pytest.approx(wilson_of(0.75, 3.0))
    assert clustered([(25, 50), (25, 50)]) == wilson(50, 100)
    assert clustered([(50, 50), (50, 50)]) == wilson(100, 100)
    assert clustered([(3, 10)]) == wilson(3, 10)
    assert clustered([(3, 10), (4, 10)]) == wilson(7, 20)  # no wider apart than chance


def wilson_of(p: float, n: float) -> tuple[float, float, float]:
    """The two roots of |p - q| = z sqrt(q (1 - q) / n)."""
    low, high = sorted(np.roots([1 + Z**2 / n, -(2 * p + Z**2 / n), p**2]).real)
    return p, low, high


@pytest.mark.parametrize("n", range(1, 60))
def test_wilson_holds_its_value_at_the_ends(n):
    for hits in (0, n):
        p, low, high = wilson(hits, n)
        assert 0 <= low <= p <= high <= 1


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(hits, n):
    with pytest.raises(ValueError, match=f"{hits} of {n}"):
        wilson(hits, n)


def test_mean_interval_by_hand():
    # Mean of 1, 2, 6 is 3; s² = (4 + 1 + 9)/2 = 7; se = sqrt(7/3) = 1.527525; 1.959964 se = 2.993894.
    assert mean_interval([1, 2, 6]) == pytest.approx((3, 0.006106, 5.993894), abs=1e-6)
    with pytest.raises(ValueError, match="1 given"):
        mean_interval([1.0])


@pytest.mark.parametrize("freedom", [3, 5, 15, 300])
def test_students_factor(freedom):
    assert student(freedom) == pytest.approx(student_t.ppf(0.975, freedom), rel=0.01)


def test_few_values_have_a_wider_interval():
    value, low, high = student_interval([1, 2, 6, 7])
    assert (value, low) == pytest.approx((4, 8 - high))
    # s² = (9 + 4 + 4 + 9)/3; t(3) = 3.159 by the expansion.
    assert high - 4 == pytest.approx(student(3) * (26 / 3 / 4) ** 0.5)


def test_ratio_interval_by_hand():
    # R = (1 + 2 + 3 + 6)/(2 + 2 + 4 + 4) = 1; the differences -1, 0, -1, 2 have s² = 6/3, the mean below is 3.
    half = student(3) * (2 / 4) ** 0.5 / 3
    assert ratio_interval([1, 2, 3, 6], [2, 2, 4, 4]) == pytest.approx((1, 1 - half, 1 + half))
    # What pairs share cancels: where each is half of its partner, nothing is unsure.
    assert ratio_interval([1, 2, 8], [2, 4, 16]) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="1 above and 1 below"):
        ratio_interval([1.0], [1.0])


def test_a_ratios_interval_holds_it_as_often_as_it_says():
    """Pairs of a known ratio, 12 at a time: the share of 2000 intervals that miss is 5 %, where that without pairing misses none."""
    generator = torch.Generator().manual_seed(0)
    below = 10 + 2 * torch.randn(2000, 12, generator=generator)
    above = 0.7 * below + torch.randn(2000, 12, generator=generator)
    found = [ratio_interval(a.tolist(), b.tolist()) for a, b in zip(above, below, strict=True)]
    assert sum(not low <= 0.7 <= high for _, low, high in found) / 2000 == pytest.approx(0.05, abs=0.015)


def test_around():
    assert around(2.0, 0.0) == (2, 2, 2)
    assert around(0.0, 1.0) == pytest.approx((0, -1.959964, 1.959964), abs=1e-6)


def mean(x: torch.Tensor) -> float:
    return x.mean().item()


def test_jackknife_of_a_mean_is_its_standard_error():
    # The sample variance of 1, 2, 6 is 7; without one row each, the means are 4, 3.5 and 1.5.
    assert jackknife_variance(torch.tensor([4, 3.5, 1.5]), 3) == pytest.approx(7 / 3)
    assert jackknife_se(mean, torch.tensor([[1.0], [2], [6]]), paired=True) == pytest.approx((7 / 3) ** 0.5)


def test_jackknife_of_a_mean_is_that_of_its_groups_means():
    # Rows are equal but for one, which stands out by 1 and makes one group's mean 1/5 where the others' are 0. With 4 groups
    # of 5 the variance of the mean is s² / 4 with s² = (1/5)² (1/4), so the standard error is 1/20.
    x = torch.zeros(20, 1)
    x[7] = 1
    assert jackknife_se(mean, x, paired=True, groups=4) == pytest.approx(1 / 20)


def test_rows_beyond_the_groups_are_never_left_out():
    sizes = []
    jackknife_se(lambda x: float(sizes.append(len(x)) or 0), torch.zeros(23, 1), paired=True, groups=5)
    assert sizes == [23 - 4] * 5


def test_pairing_cancels_what_pairs_share():
    x = torch.tensor([[1.0], [2], [6]])

    def shift(a: torch.Tensor, b: torch.Tensor) -> float:
        return (b.mean() - a.mean()).item()

    assert jackknife_se(shift, x, x + 1, paired=True) == pytest.approx(0, abs=1e-6)
    # Apart, the variances add: 7/3 for three rows and again for three rows.
    assert jackknife_se(shift, x, x + 1, paired=False) == pytest.approx((14 / 3) ** 0.5)


def test_jackknife_repeats_itself():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(2))

    def se(seed: int) -> float:
        return jackknife_se(lambda s: s.square().mean().item(), x, paired=False, groups=5, seed=seed)

    assert se(0) == se(0) != se(1)
