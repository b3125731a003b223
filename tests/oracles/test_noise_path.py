"""The noise path against diffusers' schedulers, against itself, and against numbers worked out by hand."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from expunge.diffusion.noise_path import PREDICTIONS, Discrete, Flow, NoisePath
from expunge.diffusion.schedule import SCALED_LINEAR, alphas_cumprod, scaled_linear
from expunge.errors import ExpungeError
from expunge.models.paths import path_of

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PATHS = [*(Discrete(predicts=predicts) for predicts in PREDICTIONS), Flow()]
NAMES = [path.predicts for path in PATHS]


def random(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, NOISE, T = random(1), random(2), torch.tensor([10.0, 321.0, 999.0])


def eps_of(path: NoisePath, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The noise that a prediction means, from the image that it means."""
    signal, sigma = path.coefficients(t, x_t)
    return (x_t - signal * path.x_0(prediction, x_t, t)) / sigma


# --- against diffusers -------------------------------------------------------------------------------------------------------


def test_betas_and_their_product_are_those_of_diffusers() -> None:
    betas, oracle = scaled_linear(0.001, 0.01, 50), DDPMScheduler(50, beta_start=0.001, beta_end=0.01, beta_schedule="scaled_linear")
    torch.testing.assert_close(betas.float(), oracle.betas)
    torch.testing.assert_close(alphas_cumprod(betas).float(), oracle.alphas_cumprod)
    torch.testing.assert_close(SCALED_LINEAR.float(), DDPMScheduler(**SD).alphas_cumprod)


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    oracle, path = DDPMScheduler(**SD), Discrete(predicts="v_prediction")
    torch.testing.assert_close(path.add_noise(X, NOISE, T), oracle.add_noise(X, NOISE, T.long()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(path.goal(X, NOISE, T), oracle.get_velocity(X, NOISE, T.long()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_a_prediction_towards_another_image_means_that_image(path: NoisePath) -> None:
    t, x_t = torch.tensor([10.0, 321.0, 700.0]), random(3)
    torch.testing.assert_close(path.x_0(path.towards(X, x_t, t), x_t, t), X, rtol=1e-4, atol=1e-4)
    noised = path.add_noise(X, NOISE, t)
    torch.testing.assert_close(path.towards(X, noised, t), path.goal(X, NOISE, t), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("t", [1, 321, 981])
def test_x0_of_any_prediction_is_that_of_a_ddpm_step(prediction_type: str, t: int) -> None:
    """The oracle reads the same arbitrary network output as eps, v or x_0."""
    oracle = DDPMScheduler(**SD, prediction_type=prediction_type, clip_sample=False)
    step = oracle.step(NOISE, t, X, generator=torch.Generator().manual_seed(0))
    found = path_of(oracle).x_0(NOISE, X, torch.full((3,), float(t)))
    torch.testing.assert_close(found, step.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_deterministic_ddim_step_noises_x0_again_with_eps(prediction_type: str) -> None:
    oracle = DDIMScheduler(**SD, prediction_type=prediction_type, clip_sample=False)
    oracle.set_timesteps(10)
    path, now, then = path_of(oracle), torch.full((3,), 600.0), torch.full((3,), 500.0)
    again = path.add_noise(path.x_0(NOISE, X, now), eps_of(path, NOISE, X, now), then)
    torch.testing.assert_close(again, oracle.step(NOISE, 600, X).prev_sample, rtol=1e-4, atol=1e-4)


def test_between_timesteps_the_ratio_is_that_of_karras_sigmas_in_diffusers() -> None:
    """Its times lie between whole ones. By rounding them a step at 938.45 would be half a timestep off."""
    oracle = EulerDiscreteScheduler(**SD, use_karras_sigmas=True)
    oracle.set_timesteps(25)
    path, t = path_of(oracle), oracle.timesteps
    assert any(not float(time).is_integer() for time in t)
    signal, sigma = path.levels(t)
    # The oracle turns sigmas into times by interpolating log sigma, which our linear interpolation meets within a timestep's curvature.
    torch.testing.assert_close((sigma / signal).float(), oracle.sigmas[:-1], rtol=5e-3, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_noised_and_stepped_like_that_of_diffusers(shift: float) -> None:
    """An Euler step along the prediction stays on the line between the image and the noise that it implies."""
    oracle, at = FlowMatchEulerDiscreteScheduler(shift=shift), torch.tensor([10, 500, 990])
    path, t = path_of(oracle), oracle.timesteps[at]
    x_t = path.add_noise(X, NOISE, t)
    torch.testing.assert_close(x_t, oracle.scale_noise(X, t, NOISE))
    torch.testing.assert_close(path.x_0(path.goal(X, NOISE, t), x_t, t), X)

    v, now, then = random(5), oracle.timesteps[500].expand(3), oracle.timesteps[501].expand(3)
    moved = path.add_noise(path.x_0(v, X, now), eps_of(path, v, X, now), then)
    torch.testing.assert_close(moved, oracle.step(v, oracle.timesteps[500], X).prev_sample, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("t", [20, 500, 981])
def test_lam_measures_the_distance_of_the_means_of_ddpm_steps(t: int) -> None:
    """The oracle's mean of p(x_{t-1} | x_t) under two predictions; their squared distance over its variance is lam ||difference||^2."""
    oracle = DDPMScheduler(**SD, clip_sample=False, variance_type="fixed_small")
    # The same generator draws the same noise, so that the difference of two steps is that of their means.
    steps = [oracle.step(eps, t, X, generator=torch.Generator().manual_seed(0)).prev_sample.double() for eps in (NOISE, -NOISE)]
    distance = (steps[0] - steps[1]).square().sum() / oracle._get_variance(t).double()
    lam = Discrete().lam(torch.tensor([float(t)]), math.inf)[0]
    torch.testing.assert_close(distance, lam * (2 * NOISE.double()).square().sum(), rtol=5e-3, atol=0)


# --- against itself ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
@pytest.mark.parametrize("t", [T, torch.tensor([0.5, 321.25, 998.75])], ids=["whole times", "between them"])
def test_a_perfect_prediction_gives_image_and_noise_back(path: NoisePath, t: Tensor) -> None:
    x_0, noise = random(3, torch.float64), random(4, torch.float64)
    x_t, goal = path.add_noise(x_0, noise, t), path.goal(x_0, noise, t)
    torch.testing.assert_close(path.x_0(goal, x_t, t), x_0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(eps_of(path, goal, x_t, t), noise, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_an_error_of_a_prediction_is_one_of_noise_up_to_the_scale(path: NoisePath) -> None:
    x_t, one, other = (random(seed, torch.float64) for seed in (3, 4, 5))
    moved = (eps_of(path, one, x_t, T) - eps_of(path, other, x_t, T)).abs()
    torch.testing.assert_close(moved, path.eps_scale(T)[:, None, None, None] * (one - other).abs())


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_levels_and_log_snr_agree_and_fall_along_the_path(path: NoisePath) -> None:
    t = path.times(torch.linspace(0.01, 0.99, 50))
    signal, sigma = (part.double() for part in path.levels(t))
    torch.testing.assert_close(path.log_snr(t), (signal.square() / sigma.square()).log(), rtol=1e-6, atol=1e-6)
    assert (path.log_snr(t).diff() < 0).all()
    between = path.log_snr(t[:1] + 0.5)
    assert path.log_snr(t[:1]) > between > path.log_snr(t[:1] + 1)


def test_one_formula_of_lam_is_that_of_the_posterior_on_a_discrete_path() -> None:
    """beta_t^2 / (alpha_t (1 - abar_t) s_t^2) with s_t^2 the variance of q(x_{t-1} | x_t, x_0)."""
    abar, previous = SCALED_LINEAR, torch.cat([torch.ones(1, dtype=torch.float64), SCALED_LINEAR[:-1]])
    alpha = abar / previous
    expected = (1 - alpha) / (alpha * (1 - previous))
    found = Discrete().lam(torch.arange(1000.0), math.inf)
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-9, atol=0)
    assert found[0] == math.inf


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_whole_times_are_floats_within_the_path(path: NoisePath) -> None:
    t = path.times(torch.tensor([0.0, 0.5, 1.0]))
    assert t.dtype == torch.float32
    assert t.tolist() == ([0.0, 500.0, 999.0] if isinstance(path, Discrete) else [0.0, 500.0, 1000.0])
    assert len(path.whole_times) == path.horizon == 1000


# --- by hand -----------------------------------------------------------------------------------------------------------------


def test_one_point_by_hand() -> None:
    """abar = 0.36: signal 0.6, sigma 0.8. x_0 = 2, eps = 1: x_t = 1.2 + 0.8 = 2, v = 0.6 - 1.6 = -1. snr = 0.36 / 0.64."""
    abar, t = torch.tensor([0.9, 0.36], dtype=torch.float64), torch.tensor([1.0])
    x_0, eps, v, x_t = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (2.0, 1.0, -1.0, 2.0))
    path = Discrete(abar, "v_prediction")
    torch.testing.assert_close(path.add_noise(x_0, eps, t), x_t)
    torch.testing.assert_close(path.goal(x_0, eps, t), v)
    torch.testing.assert_close(path.log_snr(t).exp().item(), 0.5625)
    assert path.eps_scale(t).item() == pytest.approx(0.6)
    assert Discrete(abar, "sample").eps_scale(t).item() == pytest.approx(0.75)


def test_a_flow_by_hand() -> None:
    """s = 0.25: x_0 = 2, noise = 1: x_t = 1.5 + 0.25, prediction 1 - 2, snr 9; at s = 1 nothing that is predicted moves the noise."""
    path, t = Flow(), torch.tensor([250.0])
    x_0, noise = torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1)
    assert path.add_noise(x_0, noise, t).item() == 1.75
    assert path.goal(x_0, noise, t).item() == -1
    assert path.log_snr(t).exp().item() == pytest.approx(9)
    assert path.eps_scale(torch.tensor([250.0, 1000.0])).tolist() == [0.75, 0.0]
    assert path.lam(t, math.inf).item() == pytest.approx((0.751 / 0.249) ** 2 / 9 - 1)


def test_lam_by_hand_and_capped() -> None:
    """betas 0.5, 0.5: abar 0.5, 0.25, snr 1, 1/3. lam_0 infinite, lam_1 = 3 - 1."""
    path, t = Discrete(alphas_cumprod(torch.tensor([0.5, 0.5]))), torch.tensor([0.0, 1.0])
    assert path.lam(t, math.inf).tolist() == pytest.approx([math.inf, 2])
    assert path.lam(t, 1.5).tolist() == [1.5, 1.5]
    assert Flow().lam(torch.tensor([0.0, 1000.0]), 2.0).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_is_positive(cap: float) -> None:
    with pytest.raises(ExpungeError) as caught:
        Flow().lam(T, cap)
    assert caught.value.rule == "cap-not-positive"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_latents_keep_their_dtype_whatever_the_path_is_in(path: NoisePath) -> None:
    x, noise = X.bfloat16(), NOISE.bfloat16()
    assert path.add_noise(x, noise, T).dtype == path.goal(x, noise, T).dtype == path.x_0(noise, x, T).dtype == torch.bfloat16


def test_an_unknown_prediction_type_names_the_known() -> None:
    with pytest.raises(ExpungeError) as caught:
        Discrete(predicts="flow_prediction")
    assert (caught.value.rule, caught.value.value) == ("unknown-prediction-type", "flow_prediction")
    assert "epsilon, v_prediction, sample" in caught.value.hint
