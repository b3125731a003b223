"""The noise path: schedules, noising, conversions between what networks predict, and the weight of a KL divergence.

Pure functions of tensors. With abar_t = `alphas_cumprod[t]`, `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps` and
`v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0` (arXiv 2006.11239, eq. 4; 2202.00512, sec. 4). A rectified flow instead goes
straight, `x_t = (1 - t) x_0 + t noise` with `t` in 0..1, and predicts `v = noise - x_0` (2209.03003). Timesteps count from 0.
Outputs have the dtype and device of the latents; the schedule may be of any floating dtype and on another device.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Latents, Times
from expunge.errors import ExpungeError

Schedule = Float[Tensor, " steps"]
FlowTimes = Float[Tensor, " b"]


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Schedule:
    """Betas whose square roots are evenly spaced, in float64; the defaults are Stable Diffusion's.

    Larger betas noise faster: `beta_start` sets how much of the picture's detail the first steps take, `beta_end` the last.
    """
    return torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2


def linear(beta_start: float = 0.0001, beta_end: float = 0.02, steps: int = 1000) -> Schedule:
    """Evenly spaced betas, in float64; the defaults are DDPM's (arXiv 2006.11239, sec. 4)."""
    return torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)


def alphas_cumprod(betas: Schedule) -> Schedule:
    """abar_t = prod_{s <= t} (1 - beta_s): the share of the picture in the variance of x_t, falling from about 1 to about 0."""
    return torch.cumprod(1 - betas, dim=0)


def snr(alphas_cumprod: Schedule) -> Schedule:
    """Signal-to-noise ratio abar_t / (1 - abar_t) of each timestep, in powers (not decibels)."""
    return alphas_cumprod / (1 - alphas_cumprod)


def _signal_and_noise(alphas_cumprod: Schedule, t: Times, like: Latents) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """sqrt(abar_t) and sqrt(1 - abar_t), ready to multiply `like`."""
    # Roots are taken in the schedule's precision: 1 - abar_0 would lose most of its digits in half precision.
    abar = alphas_cumprod[t.to(alphas_cumprod.device)][:, None, None, None]
    return abar.sqrt().to(like), (1 - abar).sqrt().to(like)


def add_noise(x_0: Latents, noise: Latents, t: Times, alphas_cumprod: Schedule) -> Latents:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""
    signal, sigma = _signal_and_noise(alphas_cumprod, t, x_0)
    return signal * x_0 + sigma * noise


def eps_from_v(v: Latents, x_t: Latents, t: Times, alphas_cumprod: Schedule) -> Latents:
    """eps = sqrt(abar_t) v + sqrt(1 - abar_t) x_t."""
    signal, sigma = _signal_and_noise(alphas_cumprod, t, x_t)
    return signal * v + sigma * x_t


def v_from_eps(eps: Latents, x_t: Latents, t: Times, alphas_cumprod: Schedule) -> Latents:
    """v = (eps - sqrt(1 - abar_t) x_t) / sqrt(abar_t). Not finite where abar_t = 0 (a zero-terminal-SNR schedule's last step)."""
    signal, sigma = _signal_and_noise(alphas_cumprod, t, x_t)
    return (eps - sigma * x_t) / signal


def x0_from_eps(eps: Latents, x_t: Latents, t: Times, alphas_cumprod: Schedule) -> Latents:
    """x_0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t). Not finite where abar_t = 0."""
    signal, sigma = _signal_and_noise(alphas_cumprod, t, x_t)
    return (x_t - sigma * eps) / signal


def eps_from_x0(x_0: Latents, x_t: Latents, t: Times, alphas_cumprod: Schedule) -> Latents:
    """eps = (x_t - sqrt(abar_t) x_0) / sqrt(1 - abar_t)."""
    signal, sigma = _signal_and_noise(alphas_cumprod, t, x_t)
    return (x_t - signal * x_0) / sigma


def add_flow_noise(x_0: Latents, noise: Latents, t: FlowTimes) -> Latents:
    """x_t = (1 - t) x_0 + t noise, the rectified flow's path; `t` in 0..1 (a scheduler's sigma)."""
    t = t.to(x_0)[:, None, None, None]
    return (1 - t) * x_0 + t * noise


def eps_from_flow(v: Latents, x_t: Latents, t: FlowTimes) -> Latents:
    """eps = x_t + (1 - t) v, for a flow that predicts v = noise - x_0; so x_0 = eps - v."""
    return x_t + (1 - t.to(x_t)[:, None, None, None]) * v


def to_eps(prediction: Latents, x_t: Latents, t: Times, alphas_cumprod: Schedule, prediction_type: str) -> Latents:
    """What a network predicted at (x_t, t), as noise: the one place that knows the parameterisations.

    `prediction_type` is the word in a diffusers scheduler's configuration: "epsilon", "v_prediction" or "sample", which is x_0.

    Raises:
        ExpungeError: another parameterisation.
    """
    match prediction_type:
        case "epsilon":
            return prediction
        case "v_prediction":
            return eps_from_v(prediction, x_t, t, alphas_cumprod)
        case "sample":
            return eps_from_x0(prediction, x_t, t, alphas_cumprod)
        case _:
            raise ExpungeError(
                f"a prediction type is epsilon, v_prediction or sample: the scheduler says {prediction_type!r}; "
                "choose a model that has one of these"
            )


def loss_weight(alphas_cumprod: Schedule, t: Times, prediction_type: str) -> Float[Tensor, " b"]:
    """What turns a squared error in the noise into one in what the network predicts: 1, 1 / abar_t for v, (1 - abar_t) / abar_t for x_0.

    Of nothing but noise the error in the noise is 0 whatever is predicted: there the weight is large and finite, and 0 stays 0.
    """
    if prediction_type == "epsilon":
        return torch.ones(len(t), device=t.device)
    abar = alphas_cumprod.to(t.device)[t]
    return ((1 if prediction_type == "v_prediction" else 1 - abar) / abar.clamp(min=1e-8)).float()


def _previous(alphas_cumprod: Schedule) -> Schedule:
    """abar_{t-1}, which is 1 before the first step."""
    return torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])


def posterior_variance(alphas_cumprod: Schedule) -> Schedule:
    """Variance of q(x_{t-1} | x_t, x_0): beta_t (1 - abar_{t-1}) / (1 - abar_t), 0 at t = 0 (arXiv 2006.11239, eq. 7)."""
    previous = _previous(alphas_cumprod)
    return (1 - alphas_cumprod / previous) * (1 - previous) / (1 - alphas_cumprod)


def kl_weight(alphas_cumprod: Schedule, variance: Literal["beta", "posterior"] = "beta", cap: float = 0.0131) -> Schedule:
    """lam_t, which turns squared differences of noise into divergence: M_t = lam_t || eps_1 - eps_2 ||^2, KL_t = M_t / 2.

        lam_t = beta_t^2 / (alpha_t (1 - abar_t) s_t^2)

    M_t is the squared distance, in units of s_t, of the means of two reverse kernels p(x_{t-1} | x_t) that share the variance
    s_t^2: `beta` is beta_t, `posterior` that of `posterior_variance` (at t = 0 it is 0 and lam_t infinite before the cap).
    DDIM has no variance, so a DDPM one is used whatever sampler makes the pictures. On Stable Diffusion's schedule lam_t lies
    within 0.0065..0.0131 for all t >= 100 and rises to 0.5 at t = 1.

    Args:
        cap: lam_t is at most this; the default is its value at t = 100. Larger lets the least noisy steps dominate a sum over
            t; `math.inf` is the exact weight.

    Raises:
        ExpungeError: `cap` is not positive.

    Source: the kernels' means are arXiv 2006.11239, eq. 11; the weight is the factor of its eq. 12 times two. The cap is ours.
    """
    if not cap > 0:
        raise ExpungeError(f"a cap on the weight is positive: cap is {cap}; give the default 0.0131, or math.inf for none")
    previous = _previous(alphas_cumprod)
    alpha = alphas_cumprod / previous
    noise = 1 - {"beta": alphas_cumprod, "posterior": previous}[variance]
    return ((1 - alpha) / (alpha * noise)).clamp(max=cap)
