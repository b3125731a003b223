import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from scipy.stats import t as student_t

from expunge.evaluation.metrics._jackknife import jackknife_se, jackknife_variance
from expunge.evaluation.statistics import (
    Z,
    around,
    clustered,
    grouped,
    mean_interval,
    paired_change,
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


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 3), (37, 41), (300, 300)])
def test_wilson_is_scipys(hits, n):
    ends = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n)[1:] == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_groups_that_differ_widen_a_share_and_groups_that_agree_do_not():
    """By hand: p = 3/4 of 100 in two groups of 50 with 1 and 1/2, d = 2 (1/4 1/16 + 1/4 1/16) / (3/16 / 100) = 100/3, so n_eff = 3."""
    assert clustered([(50, 50), (25, 50)]) == pytest.approx(wilson_of(0.75, 3.0))
    assert clustered([(25, 50), (25, 50)]) == wilson(50, 100)
    assert clustered([(50, 50), (50, 50)]) == wilson(100, 100)
    assert clustered([(3, 10)]) == wilson(3, 10)
    assert clustered([(3, 10), (4, 10)]) == wilson(7, 20)  # no wider apart than chance


def test_single_images_are_no_groups():
    assert clustered(grouped([True] * 92 + [False] * 8, list(range(100)))) == wilson(92, 100)


def shares_missed(groups: int, size: int, correlation: float, share: float = 0.9, times: int = 2000) -> tuple[float, float]:
    """How often `clustered` and `wilson` miss a share that is estimated from groups of images, correlated within."""
    generator, spread = np.random.default_rng(0), (1 - correlation) / correlation
    chances = generator.beta(share * spread, (1 - share) * spread, (times, groups))
    hits = generator.binomial(size, chances)
    misses = [0, 0]
    for counts in hits.tolist():
        found = clustered([(h, size) for h in counts]), wilson(sum(counts), groups * size)
        misses = [m + (not low <= share <= high) for m, (_, low, high) in zip(misses, found, strict=True)]
    return misses[0] / times, misses[1] / times


@pytest.mark.parametrize(
    ("groups", "size", "correlation", "missed", "by_wilson"),
    [
        (20, 5, 0.2, 0.07, 0.16),  # seeds of a prompt
        (20, 20, 0.05, 0.05, 0.15),
        (20, 20, 0.2, 0.08, 0.39),  # prompts of a concept
        (6, 20, 0.2, 0.14, 0.36),
        (3, 20, 0.2, 0.26, 0.385),
    ],
)
def test_how_often_intervals_miss_where_images_of_a_group_are_alike(groups, size, correlation, missed, by_wilson):
    """The numbers in the docstring of `clustered`."""
    assert shares_missed(groups, size, correlation) == pytest.approx((missed, by_wilson), abs=0.015)


def pairs(losses: int, gains: int, right: int, wrong: int) -> tuple[list[bool], list[bool]]:
    """What a run and the base model get right."""
    both = [(False, True)] * losses + [(True, False)] * gains + [(True, True)] * right + [(False, False)] * wrong
    run, base = zip(*both, strict=True)
    return list(run), list(base)


def test_six_losses_of_100_are_a_significant_change_though_the_intervals_of_both_shares_overlap():
    """98 of 100 against 92 of 100: p = 2 (1/2)^6. By hand: D' = (1 - 7) / 102, p' + q' = 8/102."""
    run, base = pairs(losses=6, gains=0, right=92, wrong=2)
    assert (sum(base), sum(run)) == (98, 92)
    assert wilson(92, 100).high > wilson(98, 100).low
    change = paired_change(run, base, range(100))
    half = Z * math.sqrt((8 / 102 - (6 / 102) ** 2) / 102)
    assert change[:3] == pytest.approx((-0.06, -6 / 102 - half, -6 / 102 + half))
    assert change[3:] == (6, 0, 2 * 0.5**6)
    assert change.high < 0
    assert change.is_significant


def test_five_losses_of_100_are_not():
    change = paired_change(*pairs(losses=5, gains=0, right=93, wrong=2), range(100))
    assert (change.p, change.is_significant) == (2 * 0.5**5, False)
    assert change.low < 0 < change.high


@pytest.mark.parametrize(("losses", "gains"), [(0, 0), (1, 0), (6, 0), (3, 9), (40, 61), (200, 150)])
def test_of_single_images_the_test_is_mcnemars(losses, gains):
    run, base = pairs(losses, gains, right=500, wrong=3)
    expected = binomtest(losses, losses + gains).pvalue if losses + gains else 1
    assert paired_change(run, base, range(len(run))).p == pytest.approx(expected, abs=1e-9)


def test_losses_of_one_prompt_count_once():
    """Six images of one prompt, one noise each: the signs of a single group say nothing, whatever its size."""
    run, base = pairs(losses=6, gains=0, right=94, wrong=0)
    together = paired_change(run, base, ["ring"] * 6 + list(range(94)))
    assert together.p == 1
    assert together.low < 0 < together.high
    # In two prompts of 4 and 2: |±4 ± 2| is 6 with 2 of 4 choices.
    assert paired_change(run, base, ["ring"] * 4 + ["disc"] * 2 + list(range(94))).p == 0.5
    # 4, 2 and a gain of 1: the sum is 5; ±4 ±2 ±1 is 5 or more for +++ and ++-, and as far below for two others.
    run, base = pairs(losses=6, gains=1, right=93, wrong=0)
    assert paired_change(run, base, ["ring"] * 4 + ["disc"] * 2 + list(range(94))).p == 0.5


def test_groups_widen_a_changes_interval_by_hand():
    """4 groups of 5: one lost whole. D = -1/4; variance of single changes 1/4 - 1/16 = 3/16; robust 4/3 (1/16) (9/16 + 3/16) = 1/16.
    d = (1/16) / (3/16 / 20) = 20/3, so n' = 3 and b/d = 3/4: p' = 1.75/5, q' = 1/5."""
    run, base = [False] * 5 + [True] * 15, [True] * 20
    change = paired_change(run, base, [i // 5 for i in range(20)])
    half = Z * math.sqrt((2.75 / 5 - (0.75 / 5) ** 2) / 5)
    assert change == pytest.approx((-0.25, -0.15 - half, -0.15 + half, 5, 0, 1))


def test_no_change_is_not_known_to_be_none():
    change = paired_change([True] * 100, [True] * 100, range(100))
    half = Z * math.sqrt(2 / 102 / 102)  # one loss and one gain added
    assert change == pytest.approx((0, -half, half, 0, 0, 1))
    assert paired_change([False] * 9, [True] * 9, range(9))[:2] == (-1, -1)


def test_a_change_takes_images_in_pairs():
    with pytest.raises(ValueError, match="none given"):
        paired_change([], [], [])
    with pytest.raises(ValueError):
        paired_change([True], [True, False], [0, 1])


def test_a_changes_interval_and_test_err_as_seldom_as_they_say():
    """Of 2000 runs with 60 images, 12 % lost and 4 % gained, the interval misses D; of 2000 with 8 % either way, the test says changed."""
    generator = np.random.default_rng(0)
    missed = false = 0
    for chances, null in (((0.12, 0.04, 0.84), False), ((0.08, 0.08, 0.84), True)):
        for losses, gains, same in generator.multinomial(60, chances, 2000).tolist():
            change = paired_change(*pairs(losses, gains, same, 0), range(60))
            missed += not null and not change.low <= -0.08 <= change.high
            false += null and change.is_significant
    assert missed / 2000 == pytest.approx(0.045, abs=0.015)
    assert false / 2000 < 0.05


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


@pytest.mark.parametrize(("freedom", "closed_form"), [(1, math.tan(0.475 * math.pi)), (2, 0.95 * math.sqrt(2 / (1 - 0.95**2)))])
def test_students_factor_by_its_closed_forms(freedom, closed_form):
    assert student(freedom) == pytest.approx(closed_form, abs=1e-9)


@pytest.mark.parametrize("freedom", [3, 15, 300])
def test_students_factor_leaves_5_percent(freedom):
    assert 2 * student_t.sf(student(freedom), freedom) == pytest.approx(0.05, abs=1e-9)


def test_few_values_have_a_wider_interval():
    value, low, high = student_interval([1, 2, 6, 7])
    assert (value, low) == pytest.approx((4, 8 - high))
    # s² = (9 + 4 + 4 + 9)/3; t(3) = 3.182446.
    assert high - 4 == pytest.approx(3.182446 * (26 / 3 / 4) ** 0.5, rel=1e-6)


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
