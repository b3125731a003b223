"""The noise path: how an image becomes noise, and what a network predicts on the way.

    x_t = signal(t) x_0 + sigma(t) noise

A path answers every question about this: noised latents, the goal of a prediction, x_0, the signal-to-noise ratio. Times are floats in
the scheduler's own units, 0 to 1000 on most models. Predictions stay in the network's own units: a rectified flow at t = 1000 has
eps = x_t whatever the network says, so a loss on eps would have no gradient there.

    epsilon        noise                                arXiv 2006.11239, eq. 14
    v_prediction   signal noise - sigma x_0             arXiv 2202.00512, sec. 4
    sample         x_0
    flow           noise - x_0                          arXiv 2209.03003

Outputs have the dtype and device of the latents.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.schedule import SCALED_LINEAR, Schedule
from expunge.diffusion.types import Latents, Times
from expunge.errors import ExpungeError

Coefficient = Float[Tensor, "b 1 1 1"]
PerPoint = Float[Tensor, " b"]

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a network on a discrete path may predict, in the words of a diffusers scheduler."""


class NoisePath(ABC):
    """The path from image to noise.

    `predicts` says what the network predicts: epsilon, v_prediction, sample or flow.
    """

    predicts: str
    horizon: int
    """The number of whole timesteps. Times are below it, or at most it on a flow."""

    @abstractmethod
    def levels(self, t: Times) -> tuple[PerPoint, PerPoint]:
        """signal and sigma of each time, in the path's own precision."""

    @abstractmethod
    def times(self, u: Float[Tensor, " b"]) -> Times:
        """The times at shares `u` of the path, 0 the image and 1 the noise."""

    @property
    @abstractmethod
    def whole_times(self) -> Times:
        """Every whole timestep, the least noisy first."""

    @abstractmethod
    def log_snr(self, t: Times) -> PerPoint:
        """log(signal^2 / sigma^2) in float64; infinite where there is no noise, or before the path begins."""

    def coefficients(self, t: Times, like: Latents) -> tuple[Coefficient, Coefficient]:
        """signal and sigma, ready to multiply `like`."""
        # Roots are taken in the path's precision: 1 - abar_0 would lose most of its digits in half precision.
        signal, sigma = (part.to(like)[:, None, None, None] for part in self.levels(t))
        return signal, sigma

    def add_noise(self, x_0: Latents, noise: Latents, t: Times) -> Latents:
        """x_t = signal x_0 + sigma noise."""
        signal, sigma = self.coefficients(t, x_0)
        return signal * x_0 + sigma * noise

    def goal(self, x_0: Latents, noise: Latents, t: Times) -> Latents:
        """What a perfect network predicts at the x_t of this image and noise."""
        match self.predicts:
            case "epsilon":
                return noise
            case "sample":
                return x_0
            case "flow":
                return noise - x_0
            case _:
                signal, sigma = self.coefficients(t, x_0)
                return signal * noise - sigma * x_0

    def x_0(self, prediction: Latents, x_t: Latents, t: Times) -> Latents:
        """The image that a prediction at x_t means. Not finite for epsilon where there is no signal."""
        signal, sigma = self.coefficients(t, x_t)
        match self.predicts:
            case "epsilon":
                return (x_t - sigma * prediction) / signal
            case "sample":
                return prediction
            case "flow":
                return x_t - sigma * prediction
            case _:
                return signal * x_t - sigma * prediction

    def towards(self, x_0: Latents, x_t: Latents, t: Times) -> Latents:
        """The prediction at x_t that means the image x_0, which need not be the one that was noised. Not finite where there is no noise."""
        signal, sigma = self.coefficients(t, x_t)
        return self.goal(x_0, (x_t - signal * x_0) / sigma, t)

    def eps(self, prediction: Latents, x_t: Latents, t: Times) -> Latents:
        """The noise that a prediction at x_t means. Not finite for `sample` where there is no noise."""
        signal, sigma = self.coefficients(t, x_t)
        match self.predicts:
            case "epsilon":
                return prediction
            case "sample":
                return (x_t - signal * prediction) / sigma
            case "flow":
                return x_t + signal * prediction
            case _:
                return sigma * x_t + signal * prediction

    def eps_scale(self, t: Times) -> PerPoint:
        """d eps / d prediction: what an error in the prediction is as an error in the noise, up to its sign, in float64.

        0 for v and flow where there is no signal.
        """
        signal, sigma = (part.double() for part in self.levels(t))
        match self.predicts:
            case "epsilon":
                return torch.ones_like(signal)
            case "sample":
                return signal / sigma
            case _:
                return signal

    def lam(self, t: Times, cap: float) -> PerPoint:
        """lam_t, which turns squared differences of eps into divergence: M_t = lam_t || eps_1 - eps_2 ||^2, KL_t = M_t / 2; in float64.

            lam_t = exp(log_snr(t - 1) - log_snr(t)) - 1

        M_t is the squared distance of the means of two reverse kernels p(x_{t-1} | x_t), in units of the standard deviation that they
        share, that of q(x_{t-1} | x_t, x_0) (arXiv 2006.11239, eqs. 7 and 12). It depends on the signal-to-noise ratio alone, so one
        formula serves every path. Samplers without a variance are taken for this one.

        Args:
            cap: lam_t is at most this. Larger lets the least noisy steps dominate a sum over t; `math.inf` is the exact weight.

        Raises:
            ExpungeError: `cap` is not positive.
        """
        if not cap > 0:
            raise ExpungeError(
                f"A cap of {cap} on the weight of a time is not positive.",
                rule="cap-not-positive",
                value=cap,
                hint="Try 0.0131, or math.inf for no cap.",
            )
        # Where neither has any noise the difference is not a number: the weight is as large as it may be.
        return torch.expm1((self.log_snr(t - 1) - self.log_snr(t)).nan_to_num(nan=torch.inf, posinf=torch.inf)).clamp(max=cap)


class Discrete(NoisePath):
    """A path by abar_t at whole timesteps: signal = sqrt(abar_t), sigma = sqrt(1 - abar_t).

    Between two timesteps sigma / signal is interpolated, as diffusers' Euler schedulers do.
    """

    def __init__(self, alphas_cumprod: Schedule = SCALED_LINEAR, predicts: str = "epsilon"):
        if predicts not in PREDICTIONS:
            raise ExpungeError(
                f"A scheduler with the prediction type {predicts!r} has no noise path here.",
                rule="unknown-prediction-type",
                value=predicts,
                hint=f"Try a model that predicts {', '.join(PREDICTIONS)}.",
            )
        self.alphas_cumprod, self.predicts, self.horizon = alphas_cumprod, predicts, len(alphas_cumprod)

    def levels(self, t: Times) -> tuple[PerPoint, PerPoint]:
        low, share = self._place(t)
        abar = self.alphas_cumprod[low]
        signal, sigma = abar.sqrt(), (1 - abar).sqrt()
        if not share.any():
            return signal, sigma
        high = self.alphas_cumprod[(low + 1).clamp(max=self.horizon - 1)].double()
        begin, end = ((1 - abar.double()) / abar.double()).sqrt(), ((1 - high) / high).sqrt()
        ratio = torch.where(end.isinf(), end, torch.lerp(begin, end, share))  # infinite next to a time without signal
        between = (1 + ratio**2).rsqrt()
        noise = torch.where(ratio.isinf(), 1.0, ratio * between)
        return torch.where(share > 0, between.to(signal), signal), torch.where(share > 0, noise.to(sigma), sigma)

    def times(self, u: Float[Tensor, " b"]) -> Times:
        return (u * self.horizon).floor().clamp(max=self.horizon - 1).float()  # where it rounds up

    @property
    def whole_times(self) -> Times:
        return torch.arange(self.horizon, dtype=torch.float32)

    def log_snr(self, t: Times) -> PerPoint:
        low, share = self._place(t)
        if share.any():
            signal, sigma = (part.double() for part in self.levels(t))
            found = 2 * (signal.log() - sigma.log())
        else:
            abar = self.alphas_cumprod[low].double()
            found = abar.log() - torch.log1p(-abar)
        return torch.where(t.to(found.device) < 0, torch.inf, found)

    def _place(self, t: Times) -> tuple[Tensor, Tensor]:
        """The whole timestep at or before each time, and how far it is to the next."""
        at = t.to(self.alphas_cumprod.device, torch.float64).clamp(0, self.horizon - 1)
        low = at.floor()
        return low.long(), at - low


class Flow(NoisePath):
    """A straight path: signal = 1 - s, sigma = s, with s = t / `horizon` (rectified flow)."""

    predicts = "flow"

    def __init__(self, horizon: int = 1000):
        self.horizon = horizon

    def levels(self, t: Times) -> tuple[PerPoint, PerPoint]:
        s = t.double() / self.horizon
        return 1 - s, s

    def times(self, u: Float[Tensor, " b"]) -> Times:
        return (u * self.horizon).float()

    @property
    def whole_times(self) -> Times:
        return torch.arange(1, self.horizon + 1, dtype=torch.float32)

    def log_snr(self, t: Times) -> PerPoint:
        signal, sigma = self.levels(t.clamp(min=0))
        return 2 * (signal.log() - sigma.log())
