from itertools import product

import pytest
import torch

from expunge.evaluation.metrics._kernel import kid, polynomial_kernel
from expunge.evaluation.statistics import Z


def randn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def k(a: torch.Tensor, b: torch.Tensor) -> float:
    return (sum(p * q for p, q in zip(a.tolist(), b.tolist(), strict=True)) / len(a) + 1) ** 3


def naive(x: torch.Tensor, y: torch.Tensor, paired: bool) -> float:
    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    across = [k(x[i], y[j]) for i in range(n) for j in range(m) if not (paired and i == j)]
    return within_x + within_y - 2 * sum(across) / len(across)


def test_kernel_by_hand():
    # ((1·3 + 2·4)/2 + 1)³ = 6.5³
    assert polynomial_kernel(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item() == 274.625


@pytest.mark.parametrize(("m", "paired"), [(7, True), (7, False), (5, False)])
def test_value_is_that_of_the_double_loop(m, paired):
    x, y = randn(7, 3, 0), randn(m, 3, 1) + 0.5
    assert kid(x, y, paired=paired).value == pytest.approx(naive(x, y, paired), rel=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_interval_is_that_of_leaving_pictures_out(paired):
    x, y = randn(6, 3, 2), randn(6, 3, 3) * 1.5
    rows = [[j for j in range(6) if j != i] for i in range(6)]

    def variance(left_out: list[float]) -> float:
        mean = sum(left_out) / 6
        return 5 / 6 * sum((v - mean) ** 2 for v in left_out)

    if paired:
        expected = variance([naive(x[r], y[r], True) for r in rows])
    else:
        expected = variance([naive(x[r], y, False) for r in rows]) + variance([naive(x, y[r], False) for r in rows])
    value, low, high = kid(x, y, paired=paired)
    assert (value - low, high - value) == pytest.approx((Z * expected**0.5,) * 2, rel=1e-9)


def population(x: torch.Tensor, y: torch.Tensor) -> float:
    """Squared MMD between the uniform distributions on the rows of `x` and of `y`."""
    return (polynomial_kernel(x, x).mean() + polynomial_kernel(y, y).mean() - 2 * polynomial_kernel(x, y).mean()).item()


def test_unbiased_over_every_sample_there_is():
    x, y = randn(2, 2, 4), randn(2, 2, 5)
    samples = [list(rows) for rows in product(range(2), repeat=3)]
    draws = [kid(x[a], y[b], paired=False).value for a in samples for b in samples]
    assert sum(draws) / len(draws) == pytest.approx(population(x, y), rel=1e-9)


def test_unbiased_over_every_sample_of_dependent_pairs():
    x = randn(3, 2, 6)
    y = x + 0.3 * randn(3, 2, 7)
    samples = [list(rows) for rows in product(range(3), repeat=3)]
    paired, unpaired = ([kid(x[r], y[r], paired=flag).value for r in samples] for flag in (True, False))
    assert sum(paired) / 27 == pytest.approx(population(x, y), rel=1e-9)
    assert sum(unpaired) / 27 != pytest.approx(population(x, y), rel=0.1)


def test_two_samples_of_one_distribution_fall_on_both_sides_of_zero():
    signs = {kid(randn(20, 4, seed), randn(20, 4, seed + 100), paired=False).value > 0 for seed in range(10)}
    assert signs == {True, False}


def test_equal_pairs_are_at_no_distance():
    x = randn(9, 4, 8)
    assert kid(x, x, paired=True) == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "paired"), [(2, 5, False), (5, 2, False), (4, 5, True)])
def test_too_few_or_unequal_pictures_are_refused(n, m, paired):
    with pytest.raises(ValueError, match=f"{n} and {m} given"):
        kid(torch.zeros(n, 2), torch.zeros(m, 2), paired=paired)
