"""FID against closed forms and against scipy's matrix square root."""

import numpy as np
import pytest
import scipy.linalg
import torch

from expunge.evaluation.metrics._frechet import fid, fid_interval
from expunge.evaluation.statistics import Z


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    """Correlated features with a spectrum that falls off, like a classifier's."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) * np.geomspace(3, 0.03, d)
    return torch.from_numpy(rng.standard_normal((n, d)) @ mix.T + shift)


def by_sqrtm(x: torch.Tensor, y: torch.Tensor) -> float:
    sx, sy = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    gap = x.numpy().mean(0) - y.numpy().mean(0)
    return float(gap @ gap + np.trace(sx) + np.trace(sy) - 2 * np.trace(scipy.linalg.sqrtm(sx @ sy)).real)


def by_eigenvalues(x: torch.Tensor, y: torch.Tensor) -> float:
    """tr (Sx^½ Sy Sx^½)^½ over the eigenvalues: serves where sqrtm fails, on singular matrices."""
    sx, sy = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    values, vectors = np.linalg.eigh(sx)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    gap = x.numpy().mean(0) - y.numpy().mean(0)
    return float(gap @ gap + np.trace(sx) + np.trace(sy) - 2 * np.sqrt(np.linalg.eigvalsh(root @ sy @ root).clip(0)).sum())


@pytest.mark.parametrize(("n", "m", "d"), [(400, 400, 16), (300, 90, 24), (60, 500, 8)])
def test_equals_scipy(n, m, d):
    x, y = cloud(n, d, 0), cloud(m, d, 1, shift=0.2)
    assert fid(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-8)


@pytest.mark.parametrize(("n", "m", "d"), [(10, 10, 32), (12, 90, 32), (90, 5, 32), (2, 2, 8)])
def test_equals_the_eigenvalues_with_fewer_pictures_than_features(n, m, d):
    x, y = cloud(n, d, 2), cloud(m, d, 3, shift=0.2)
    assert fid(x, y) == pytest.approx(by_eigenvalues(x, y), rel=1e-5)


def test_diagonal_gaussians_have_a_closed_form():
    # Rows ±a e_k have mean 0 and covariance 2 a² / (n - 1) along e_k. With n = 4: a² = 6 gives variance 4, a² = 1.5 gives 1,
    # a² = 13.5 gives 9. FID = ||(3, 4)||² + (2 - 1)² + (1 - 3)² = 25 + 1 + 4.
    def cross(a: float, b: float) -> torch.Tensor:
        return torch.tensor([[a, 0], [-a, 0], [0, b], [0, -b]])

    x, y = cross(6**0.5, 1.5**0.5), cross(1.5**0.5, 13.5**0.5) + torch.tensor([3.0, 4.0])
    assert fid(x, y) == pytest.approx(30, rel=1e-6)


def test_orthogonal_lines_share_nothing():
    # Two pictures each, in three dimensions: variances 2 along e_1 and 8 along e_2, so FID = 2 + 8 - 0.
    assert fid(torch.tensor([[1.0, 0, 0], [-1, 0, 0]]), torch.tensor([[0, 2.0, 0], [0, -2, 0]])) == pytest.approx(10)


def test_symmetric_and_blind_to_a_common_rotation_and_shift():
    x, y = cloud(40, 6, 4), cloud(30, 6, 5)
    turn = torch.linalg.qr(cloud(6, 6, 6)).Q
    assert fid(y, x) == pytest.approx(fid(x, y), rel=1e-10)
    assert fid(x @ turn + 7, y @ turn + 7) == pytest.approx(fid(x, y), rel=1e-9)


@pytest.mark.parametrize("n", [3, 10, 100])
def test_equal_sets_are_at_no_distance(n):
    x = cloud(n, 32, 7)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)
    assert fid_interval(x, x, paired=True) == pytest.approx((0, 0, 0), abs=1e-9)


def test_biased_upwards_and_the_more_so_the_fewer_pictures():
    one = cloud(2000, 6, 10)
    halves = [fid(one[:n], one[n : 2 * n]) for n in (10, 100, 1000)]
    assert halves[0] > halves[1] > halves[2] > 0


def test_double_precision_inside():
    x, y = cloud(50, 8, 8), cloud(50, 8, 9)
    assert fid(x.float(), y.float()) == pytest.approx(fid(x, y), rel=1e-5)


@pytest.mark.parametrize(
    ("n", "d", "narrowest", "widest"),
    [
        (100, 4, 0.75, 1.35),
        (50, 64, 0.75, 2.2),  # fewer pictures than features: wider than need be, as the docstring says, never narrower
    ],
)
def test_intervals_have_the_spread_of_fresh_samples(n, d, narrowest, widest):
    x, y = cloud(40 * n, d, 11).split(n), (0.5 * cloud(40 * n, d, 11).flip(0) + 1).split(n)
    fresh = torch.tensor([fid(a, b) for a, b in zip(x, y, strict=True)]).std().item()
    intervals = [fid_interval(a, b, paired=False) for a, b in zip(x[:8], y[:8], strict=True)]
    variances = [((i.high - i.low) / 2 / Z) ** 2 for i in intervals]
    assert narrowest < (sum(variances) / 8) ** 0.5 / fresh < widest
    assert all(i.low < i.value < i.high for i in intervals)


def test_one_picture_has_no_covariance():
    with pytest.raises(ValueError, match="1 and 5 given"):
        fid(torch.zeros(1, 3), torch.zeros(5, 3))
