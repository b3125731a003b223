"""The noise path against diffusers' schedulers, against itself, and against numbers worked out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from expunge.diffusion import schedule
from expunge.errors import ExpungeError

ABAR = schedule.alphas_cumprod(schedule.scaled_linear())
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PREDICTIONS = ["epsilon", "v_prediction", "sample"]


def random(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, NOISE, T = random(1), random(2), torch.tensor([0, 321, 999])


@pytest.mark.parametrize("shape", [schedule.scaled_linear, schedule.linear])
def test_betas_and_their_product_are_those_of_diffusers(shape: Callable[[float, float, int], Tensor]) -> None:
    betas, oracle = shape(0.001, 0.01, 50), DDPMScheduler(50, beta_start=0.001, beta_end=0.01, beta_schedule=shape.__name__)
    torch.testing.assert_close(betas.float(), oracle.betas)
    torch.testing.assert_close(schedule.alphas_cumprod(betas).float(), oracle.alphas_cumprod)


def test_defaults_are_stable_diffusion_and_ddpm() -> None:
    torch.testing.assert_close(schedule.scaled_linear().float(), DDPMScheduler(**SD).betas)
    torch.testing.assert_close(schedule.linear().float(), DDPMScheduler().betas)


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    oracle = DDPMScheduler(**SD)
    torch.testing.assert_close(schedule.add_noise(X, NOISE, T, ABAR), oracle.add_noise(X, NOISE, T), rtol=1e-5, atol=1e-5)
    x_t = schedule.add_noise(X, NOISE, T, ABAR)
    velocity = oracle.get_velocity(X, NOISE, T)
    torch.testing.assert_close(schedule.eps_from_v(velocity, x_t, T, ABAR), NOISE, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(schedule.v_from_eps(NOISE, x_t, T, ABAR), velocity, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("t", [1, 321, 981])
def test_x0_of_any_prediction_is_that_of_a_ddpm_step(prediction_type: str, t: int) -> None:
    """The oracle reads the same arbitrary network output as eps, v or x_0."""
    oracle = DDPMScheduler(**SD, prediction_type=prediction_type, clip_sample=False)
    step = oracle.step(NOISE, t, X, generator=torch.Generator().manual_seed(0))
    times = torch.full((3,), t)
    eps = schedule.to_eps(NOISE, X, times, ABAR, prediction_type)
    torch.testing.assert_close(schedule.x0_from_eps(eps, X, times, ABAR), step.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_deterministic_ddim_step_noises_x0_again_with_eps(prediction_type: str) -> None:
    oracle = DDIMScheduler(**SD, prediction_type=prediction_type, clip_sample=False)
    oracle.set_timesteps(10)
    now, then = torch.full((3,), 600), torch.full((3,), 500)
    eps = schedule.to_eps(NOISE, X, now, ABAR, prediction_type)
    again = schedule.add_noise(schedule.x0_from_eps(eps, X, now, ABAR), eps, then, ABAR)
    torch.testing.assert_close(again, oracle.step(NOISE, 600, X).prev_sample, rtol=1e-4, atol=1e-4)


def test_conversions_undo_each_other() -> None:
    """Exact in x_0, eps and v at once: x_t comes from x_0 and eps, and each of them comes back from the others."""
    x_0, eps = random(3, torch.float64), random(4, torch.float64)
    x_t = schedule.add_noise(x_0, eps, T, ABAR)
    v = schedule.v_from_eps(eps, x_t, T, ABAR)
    near = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(schedule.x0_from_eps(eps, x_t, T, ABAR), x_0, **near)
    torch.testing.assert_close(schedule.eps_from_x0(x_0, x_t, T, ABAR), eps, **near)
    torch.testing.assert_close(schedule.eps_from_v(v, x_t, T, ABAR), eps, **near)
    for prediction, prediction_type in ((eps, "epsilon"), (v, "v_prediction"), (x_0, "sample")):
        torch.testing.assert_close(schedule.to_eps(prediction, x_t, T, ABAR, prediction_type), eps, **near)


def test_differences_of_predictions_are_those_of_noise_up_to_a_factor() -> None:
    """At one x_t: eps differs by sqrt(abar) of v's difference, by sqrt(abar / (1 - abar)) of x_0's, in a flow by (1 - t) of v's."""
    x_t, one, other = random(3, torch.float64), random(4, torch.float64), random(5, torch.float64)
    abar, sigma = ABAR[T][:, None, None, None], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)

    def moved(prediction_type: str) -> Tensor:
        return (schedule.to_eps(one, x_t, T, ABAR, prediction_type) - schedule.to_eps(other, x_t, T, ABAR, prediction_type)).square()

    torch.testing.assert_close(moved("v_prediction"), abar * (one - other).square())
    torch.testing.assert_close(moved("sample"), abar / (1 - abar) * (one - other).square())
    flow = schedule.eps_from_flow(one, x_t, sigma) - schedule.eps_from_flow(other, x_t, sigma)
    torch.testing.assert_close(flow, (1 - sigma)[:, None, None, None] * (one - other))


def test_one_point_by_hand() -> None:
    """abar = 0.36: signal 0.6, sigma 0.8. x_0 = 2, eps = 1: x_t = 1.2 + 0.8 = 2, v = 0.6 - 1.6 = -1. snr = 0.36 / 0.64."""
    abar, t = torch.tensor([0.9, 0.36], dtype=torch.float64), torch.tensor([1])
    x_0, eps, v, x_t = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (2.0, 1.0, -1.0, 2.0))
    torch.testing.assert_close(schedule.add_noise(x_0, eps, t, abar), x_t)
    torch.testing.assert_close(schedule.v_from_eps(eps, x_t, t, abar), v)
    torch.testing.assert_close(schedule.snr(abar)[1].item(), 0.5625)


def test_latents_keep_their_dtype_whatever_the_schedule_is_in() -> None:
    x, noise = X.bfloat16(), NOISE.bfloat16()
    assert schedule.add_noise(x, noise, T, ABAR).dtype == torch.bfloat16
    assert schedule.to_eps(noise, x, T, ABAR, "v_prediction").dtype == torch.bfloat16
    assert schedule.eps_from_flow(noise, x, torch.rand(3)).dtype == torch.bfloat16
    assert schedule.add_flow_noise(x, noise, torch.rand(3)).dtype == torch.bfloat16


def test_an_unknown_prediction_type_names_the_known() -> None:
    with pytest.raises(ExpungeError, match="epsilon, v_prediction or sample: the scheduler says 'flow_prediction'"):
        schedule.to_eps(NOISE, X, T, ABAR, "flow_prediction")


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_noised_and_stepped_like_that_of_diffusers(shift: float) -> None:
    """An Euler step along v stays on the line between x_0 and noise that the prediction implies."""
    oracle = FlowMatchEulerDiscreteScheduler(shift=shift)
    at = torch.tensor([10, 500, 990])
    sigma = oracle.sigmas[at]
    x_t = schedule.add_flow_noise(X, NOISE, sigma)
    torch.testing.assert_close(x_t, oracle.scale_noise(X, oracle.timesteps[at], NOISE))
    torch.testing.assert_close(schedule.eps_from_flow(NOISE - X, x_t, sigma), NOISE)

    v = random(5)
    eps = schedule.eps_from_flow(v, X, oracle.sigmas[500].expand(3))
    moved = schedule.add_flow_noise(eps - v, eps, oracle.sigmas[501].expand(3))
    torch.testing.assert_close(moved, oracle.step(v, oracle.timesteps[500], X).prev_sample, rtol=1e-5, atol=1e-5)


def test_posterior_variance_is_that_of_diffusers() -> None:
    oracle = DDPMScheduler(**SD)
    ours = schedule.posterior_variance(ABAR)
    assert ours[0] == 0
    for t in (1, 2, 50, 999):  # the oracle's betas are differences in float32, good to four digits
        torch.testing.assert_close(ours[t].float(), oracle._get_variance(t), rtol=2e-4, atol=0)
    ddim = DDIMScheduler(**SD)
    torch.testing.assert_close(ours[500].float(), ddim._get_variance(500, 499), rtol=2e-4, atol=0)


def test_kl_weight_is_the_table_of_the_formula() -> None:
    """beta_t / (alpha_t (1 - abar_t)) on Stable Diffusion's schedule, to the printed digits; times 16384 latent elements."""
    weight = schedule.kl_weight(ABAR, cap=math.inf)
    table = {1: 0.502, 10: 0.0939, 20: 0.0507, 50: 0.0228, 100: 0.0131, 200: 0.00833, 300: 0.00696, 400: 0.00656, 500: 0.00669,
             600: 0.00719, 700: 0.00802, 800: 0.00916, 900: 0.0106, 999: 0.0122}  # fmt: skip
    assert {t: float(f"{weight[t].item():.3g}") for t in table} == table
    assert [round(weight[t].item() * 16384) for t in (1, 100, 400, 999)] == [8225, 215, 108, 200]


def test_kl_weight_measures_the_distance_of_the_means_of_ddpm_steps() -> None:
    """The oracle's mean of p(x_{t-1} | x_t) under two predictions; their squared distance over its variance is lam ||difference||^2."""
    for variance, variance_type in (("beta", "fixed_large"), ("posterior", "fixed_small")):
        oracle = DDPMScheduler(**SD, clip_sample=False, variance_type=variance_type)
        weight = schedule.kl_weight(ABAR, variance, cap=math.inf)
        for t in (20, 500, 981):
            # The same generator draws the same noise, so that the difference of two steps is that of their means.
            steps = [oracle.step(eps, t, X, generator=torch.Generator().manual_seed(0)).prev_sample.double() for eps in (NOISE, -NOISE)]
            distance = (steps[0] - steps[1]).square().sum() / oracle._get_variance(t).double()
            torch.testing.assert_close(distance, weight[t] * (2 * NOISE.double()).square().sum(), rtol=5e-3, atol=0)


def test_kl_weight_by_hand_and_capped() -> None:
    """betas 0.5, 0.5: abar 0.5, 0.25. beta: 0.5 / (0.5 * 0.5) = 2, 0.5 / (0.5 * 0.75) = 4/3; posterior: infinite, 0.5 / (0.5 * 0.5) = 2."""
    abar = schedule.alphas_cumprod(torch.tensor([0.5, 0.5]))
    assert schedule.kl_weight(abar, cap=math.inf).tolist() == pytest.approx([2, 4 / 3])
    assert schedule.kl_weight(abar, cap=1.5).tolist() == pytest.approx([1.5, 4 / 3])
    assert schedule.kl_weight(abar, "posterior", cap=math.inf).tolist() == [math.inf, 2]
    assert schedule.kl_weight(abar, "posterior", cap=3.0).tolist() == [3, 2]


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_is_positive(cap: float) -> None:
    with pytest.raises(ExpungeError, match=f"cap is {cap}"):
        schedule.kl_weight(ABAR, cap=cap)
