"""The information estimate against Gaussians, whose best predictions are linear and whose information is known in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from raising import raises_error

from expunge.diffusion.noise_path import Discrete, Flow, NoisePath
from expunge.diffusion.types import Cond, Point
from expunge.evaluation.information.mutual_information import Axis, Estimate, points, pointwise, predictions, shared_range
from expunge.evaluation.statistics import mean_interval

RHO, SHAPE = 0.8, (2, 4, 4)
DIMENSIONS = 32
LEFT = 1 - RHO**2
"""The variance of x that y leaves."""
EXACT = -0.5 * DIMENSIONS * math.log(LEFT)

FINE = Discrete(torch.sigmoid(torch.linspace(14, -14, 4000, dtype=torch.float64)))
"""A schedule from nothing but picture to nothing but noise, even in logSNR."""
STABLE = Discrete()
"""Stable Diffusion's, which is uneven in logSNR and ends before both."""


def reachable(path: NoisePath) -> float:
    """The part of `EXACT` between two noise levels: 1/2 log (1 + snr) / (1 + v snr) at the one less the same at the other."""
    snr = path.log_snr(path.whole_times[[0, -1]]).exp()
    return 0.5 * DIMENSIONS * torch.log((1 + snr) / (1 + LEFT * snr)).diff().neg().item()


def network(path: NoisePath, rho: float = RHO):
    """The best predictions of the noise for x ~ N(0, 1) and x | y ~ N(rho y, 1 - rho^2), in each dimension.

    With s = abar: x_a has variance 1, and around sqrt(s) rho y the variance s (1 - rho^2) + 1 - s; its covariance with the noise is
    sqrt(1 - s) in both cases.
    """

    def best(point: Point) -> torch.Tensor:
        signal, sigma = path.coefficients(point.t, point.x_t)
        y, asked = point.cond.states.reshape(-1, *SHAPE), torch.tensor([k != "" for k in point.cond.keys])[:, None, None, None]
        given = (point.x_t - signal * rho * y) / (signal**2 * (1 - rho**2) + sigma**2)
        eps = sigma * torch.where(asked, given, point.x_t / (signal**2 + sigma**2))
        return path.goal((point.x_t - sigma * eps) / signal, eps, point.t)

    return best


def pictures(n: int, seed: int = 0) -> tuple[torch.Tensor, Cond, torch.Tensor]:
    """Pictures, the conditions that hold their y, and log p(x | y) / p(x) of each."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(n, *SHAPE, generator=generator)
    x = RHO * y + LEFT**0.5 * torch.randn(n, *SHAPE, generator=generator)
    exact = (0.5 * (x.square() - (x - RHO * y).square() / LEFT) - 0.5 * math.log(LEFT)).sum((1, 2, 3))
    return x, Cond(y.reshape(n, 1, DIMENSIONS), tuple(f"y{i}" for i in range(n))), exact


NOTHING = Cond(torch.zeros(1, 1, DIMENSIONS), ("",))


def within(estimate: Estimate, exact: float, errors: float = 3.5) -> bool:
    """Whether the mean over pictures is the exact one, within what pictures and draws let it vary."""
    value, low, high = mean_interval(estimate.nats.tolist())
    return abs(value - exact) <= errors * (high - low) / 2 / 1.96


@pytest.mark.parametrize("form", ["orthogonal", "standard"])
@pytest.mark.parametrize("proposal", [None, 0.5])
def test_the_mean_is_the_closed_form(form, proposal):
    x, given, _ = pictures(200)
    found = pointwise(network(FINE), x, given, NOTHING, FINE, axis=Axis.of(FINE, proposal, 1.5), draws=16, form=form)
    assert within(found, EXACT)
    # The test can fail: a fifth more or less is many standard errors away.
    assert not within(found, 1.2 * EXACT)
    assert not within(found, 0.8 * EXACT)


def test_on_an_uneven_schedule_the_mean_is_what_its_noise_levels_reach():
    x, given, _ = pictures(200)
    found = pointwise(network(STABLE), x, given, NOTHING, STABLE, draws=16)
    assert reachable(STABLE) < 0.999 * EXACT
    assert within(found, reachable(STABLE))
    assert reachable(FINE) == pytest.approx(EXACT, rel=1e-4)


@pytest.mark.parametrize("predicts", ["v_prediction", "sample", "flow"])
def test_other_predictions_and_other_paths_give_the_same_number(predicts):
    path = Flow() if predicts == "flow" else Discrete(predicts=predicts)
    x, given, _ = pictures(200)
    axis = Axis.of(path, 0.5, 1.5)
    for form in ("orthogonal", "standard"):
        assert within(pointwise(network(path), x, given, NOTHING, path, axis=axis, draws=16, form=form), reachable(path))


def test_over_the_noise_levels_that_two_paths_share_their_numbers_are_equal():
    """A flow reaches further than Stable Diffusion's schedule, and so finds more on the whole of its path."""
    short, long, (x, given, _) = Discrete(torch.sigmoid(torch.linspace(2, -2, 1000, dtype=torch.float64))), Flow(), pictures(200)
    low, high = shared_range(short, long)
    assert (low, high) == pytest.approx((-2, 2), abs=1e-9)
    assert shared_range(STABLE, long) == pytest.approx(tuple(STABLE.log_snr(STABLE.whole_times[[-1, 0]]).tolist()))
    axes = {path: Axis.of(path, within=(low, high)) for path in (short, long)}
    assert all(low <= axis.log_snr.min() and axis.log_snr.max() <= high for axis in axes.values())
    for path, axis in axes.items():
        assert within(pointwise(network(path), x, given, NOTHING, path, axis=axis, draws=16), reachable(short))
    assert not within(pointwise(network(long), x, given, NOTHING, long, draws=16), reachable(short))
    with raises_error("schedule-too-short", 0):
        Axis.of(short, within=(3, 4))


def test_a_difference_of_other_predictions_is_not_one_of_noise():
    path, (x, given, _) = Discrete(predicts="sample"), pictures(200)
    found = pointwise(network(path), x, given, NOTHING, Discrete(), axis=Axis.of(path, 0.5, 1.5), draws=16)
    assert not within(found, reachable(path))


def test_defective_forms_are_seen():
    """Without the half, by t instead of logSNR, and by the chance of a draw forgotten: each is many standard errors away."""
    x, given, _ = pictures(200)
    even = Axis.of(STABLE)
    by_t = replace(
        even, width=torch.ones_like(even.width) * even.width.sum() / len(even.t), probability=torch.full_like(even.probability, 1e-3)
    )
    logistic = Axis.of(STABLE, 0.5, 1.0)
    unweighted = replace(logistic, width=logistic.probability * even.width.sum())
    for axis in (even, logistic):
        assert within(pointwise(network(STABLE), x, given, NOTHING, STABLE, axis=axis, draws=16), reachable(STABLE))
    for axis in (by_t, unweighted):
        assert not within(pointwise(network(STABLE), x, given, NOTHING, STABLE, axis=axis, draws=16), reachable(STABLE), 5)
    whole = pointwise(network(STABLE), x, given, NOTHING, STABLE, draws=16)
    assert not within(Estimate(2 * whole.nats, 2 * whole.se), reachable(STABLE), 5)


def test_each_picture_has_its_own_number_with_an_honest_standard_error():
    """The standard form is log p(x | y) / p(x) of each picture; its errors, in units of the standard error, have variance 1."""
    x, given, exact = pictures(40)
    found = pointwise(network(FINE), x, given, NOTHING, FINE, axis=Axis.of(FINE, 0.5, 1.5), draws=200, form="standard")
    errors = (found.nats - exact) / found.se
    assert errors.abs().max() < 4.5
    assert 0.45 < errors.square().mean() < 1.7  # of 40, its own standard deviation is 0.22
    assert found.nats.std() > 3 * found.se.mean()  # pictures differ by more than that
    assert found.mean_se == pytest.approx(found.se.square().sum().sqrt().item() / 40)


def test_the_orthogonal_form_is_quieter_and_never_negative():
    x, given, _ = pictures(40)
    orthogonal, standard = (pointwise(network(FINE), x, given, NOTHING, FINE, form=form) for form in ("orthogonal", "standard"))
    assert (orthogonal.nats >= 0).all()
    assert orthogonal.se.mean() < 0.5 * standard.se.mean()


@pytest.mark.parametrize("rho", [0.0, 0.4, -0.8])
def test_another_network_is_measured_by_what_is_expected_of_the_noise(rho):
    """A network that believes in another correlation, on pictures of the true one: E log p'(x | y) / p'(x), in closed form.

    At -0.8 it draws the opposite of what it is asked: the orthogonal form takes that for knowledge, the other two do not.
    """
    x, given, _ = pictures(200)
    left = 1 - rho**2
    exact = 0.5 * DIMENSIONS * (1 - (1 - 2 * rho * RHO + rho**2) / left - math.log(left))
    asked = {"axis": Axis.of(FINE, 0.5, 1.5), "draws": 16}
    expected = pointwise(network(FINE, rho), x, given, NOTHING, FINE, form="expected", maker=network(FINE), **asked)
    standard = pointwise(network(FINE, rho), x, given, NOTHING, FINE, form="standard", **asked)
    orthogonal = pointwise(network(FINE, rho), x, given, NOTHING, FINE, **asked)
    assert within(standard, exact)
    assert within(expected, exact) if rho else expected.nats.abs().max() < 1e-4  # it knows nothing of y: 0 everywhere
    assert rho > -0.8 or (exact < -EXACT and orthogonal.nats.mean() > EXACT)


def test_the_maker_of_the_pictures_is_measured_alike_by_both_quiet_forms():
    x, given, _ = pictures(5)
    net = network(FINE)
    one, other = pointwise(net, x, given, NOTHING, FINE), pointwise(net, x, given, NOTHING, FINE, form="expected", maker=net)
    assert torch.equal(one.nats, other.nats)
    with raises_error("no-maker"):
        pointwise(net, x, given, NOTHING, FINE, form="expected")


@pytest.mark.parametrize("path", [FINE, STABLE, Flow()])
@pytest.mark.parametrize("loc", [None, 3.0])
def test_an_axis_covers_the_path_once(path, loc):
    axis = Axis.of(path, loc, 0.7)
    assert axis.width.sum().item() == pytest.approx((axis.log_snr[0] - axis.log_snr[-1]).item())
    assert axis.probability.sum().item() == pytest.approx(1)
    # Whatever the proposal, no draw stands for more than five times the path's length.
    assert (axis.width / axis.probability).max() <= 5.001 * axis.width.sum()
    t, weight = axis.draw(64, torch.Generator().manual_seed(0))
    assert weight.mean().item() == pytest.approx(axis.width.sum().item(), rel=0.2)
    # Two draws in each stratum of equal probability, in turn: the timestep's share of the path meets the stratum's.
    at = torch.searchsorted(axis.t, t)
    end, stratum = axis.probability.cumsum(0)[at], torch.arange(32).repeat_interleave(2) / 32
    assert (end >= stratum).all()
    assert (end - axis.probability[at] <= stratum + 1 / 32).all()


def test_steps_without_picture_or_noise_are_left_out():
    axis = Axis.of(Discrete(torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])))
    assert axis.t.tolist() == [1, 2, 3]
    with raises_error("schedule-too-short", 1):
        Axis.of(Discrete(torch.tensor([1.0, 0.5, 0.0])))
    with raises_error("draws-not-even", 3):
        axis.draw(3, torch.Generator())


def test_a_proposal_is_fitted_to_where_weight_lies():
    at = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    loc, scale = Axis.of(FINE).fit_logistic(at, torch.exp(-((at - 1) ** 2) / 8))
    assert (loc, scale) == pytest.approx((1, 2 * 3**0.5 / math.pi), rel=0.02)
    assert Axis.of(FINE).fit_logistic(at, (at.abs() < 1e-6).double())[1] == 0.5  # never so narrow that the tails are left to the floor


def test_points_of_a_picture_do_not_depend_on_those_beside_it():
    x, given, _ = pictures(3)
    axis = Axis.of(STABLE)
    all_three, weights = points(x, given, axis, 4, [7, 8, 9], STABLE)
    alone, its = points(x[1:2], given[[1]], axis, 4, [8], STABLE)
    assert torch.equal(all_three.x_t[4:8], alone.x_t)
    assert torch.equal(weights[1], its[0])
    assert all_three.cond.keys[4:8] == ("y1",) * 4


def test_predictions_in_parts_are_predictions(monkeypatch):
    x, given, _ = pictures(3)
    drawn, _ = points(x, given, Axis.of(STABLE), 4, [1, 2, 3], STABLE)
    whole = predictions(network(STABLE), drawn, given)
    monkeypatch.setattr("expunge.evaluation.information.mutual_information.BATCH", 5)
    assert torch.equal(whole, predictions(network(STABLE), drawn, given))
    assert torch.equal(whole, network(STABLE)(drawn))
