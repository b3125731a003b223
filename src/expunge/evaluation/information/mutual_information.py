"""The information that a prompt gives about an image, in nats, from a network's noise predictions and without a classifier.

At logSNR a, an image x becomes x_a = sqrt(sigmoid(a)) x + sqrt(sigmoid(-a)) eps. With the optimal predictions of the noise, with and
without a prompt y in addition to what else is known,

    i(x; y) = log p(x | y) / p(x) = 1/2 integral over a of  E_eps [ || eps - eps(x_a) ||^2 - || eps - eps(x_a | y) ||^2 ]

and its mean over images of y is the information that y gives. Guidance does not appear: it changes sampling, not prediction.

**The integral on whole timesteps.** A noise path has the values a_t = log(signal_t^2 / sigma_t^2), which fall with t. Over its timesteps
the integral is a sum, by the trapezoid rule:

    integral of f(a) da  ~  sum_t w_t f(a_t),    w_t = (a_{t-1} - a_{t+1}) / 2,  at both ends half of the only gap

A sum over t with equal weights, as in losses, would weigh noise levels by how many timesteps the path has there: on a discrete schedule
w_t is about beta_t / (1 - abar_t). The weights add up to a_0 - a_{T-1}. The integral beyond the smallest and the largest noise of the path
is not included. A timestep that is sampled with probability q_t has the weight w_t / q_t.

**Other predictions.** The predictions of networks that predict v, x_0 or a flow are compared in their own units, and each squared
difference is multiplied by the square of d eps / d prediction: the integral depends on the signal-to-noise ratio alone.

**Three forms** of the integrand differ in what replaces the noise n in || n - eps(x_a) ||^2 - || n - eps(x_a | y) ||^2:

- `standard`: the noise itself. It is valid for any image and any network that predicts noise well, and has by far the largest variance.
- `orthogonal`: the network's own eps(x_a | y), so that || eps(x_a) - eps(x_a | y) ||^2 remains. It has the same mean over images of the
  network's own p(x | y), is never negative and has a small variance. But it measures how far the prompt moves the prediction, in any
  direction: a network that generates a disc for the prompt "a ring" is credited with information about rings.
- `expected`: the prediction eps_*(x_a | y) of the network that made the images, which is the expected noise at x_a. For that network it
  equals the orthogonal form. For another, it is the standard form without most of its variance. Negative values mean that the prompt makes
  such an image less likely than no prompt does.

A single network is therefore measured by `orthogonal`, and one network on the images of another by `expected`.

Source: arXiv 2310.07972 for the forms `standard` and `orthogonal` and for importance sampling by a logistic over logSNR. The form
`expected`, the fit of the logistic and the stratification are ours.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.decomposition import gain
from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Cond, Latents, Network, Noised, Point, Times
from expunge.errors import ExpungeError
from expunge.models.finite import refuse_non_finite
from expunge.storage.hashing import seed_of

Form = Literal["expected", "orthogonal", "standard"]
Weights = Float[Tensor, "n draws"]
"""The weight of each sampled point of each image: the length of the noise path that it represents."""

BATCH = 64
"""Points in one forward pass."""
FLOOR = 0.2
"""The share of points that are sampled evenly over the path whatever the proposal is, so that no weight is ever large."""

Range: TypeAlias = tuple[float, float]
"""The least and the greatest logSNR of an integral."""
EVERYWHERE: Range = -math.inf, math.inf


def shared_range(*paths: NoisePath) -> Range:
    """The range of logSNR that every path reaches at whole timesteps.

    The information of one model over [-5, 7] and of another over [-14, 14] are two quantities: nats of noise levels that one of them lacks
    would count as a difference of what they know.
    """
    axes = [Axis.of(path) for path in paths]
    return max(axis.log_snr[-1].item() for axis in axes), min(axis.log_snr[0].item() for axis in axes)


@dataclass(frozen=True)
class Axis:
    """The noise path over logSNR: its whole timesteps, their weights in the integral, and their sampling probabilities."""

    t: Times
    """The timesteps whose logSNR is finite, the least noisy first."""
    log_snr: Float[Tensor, " places"]
    """The logSNR of each timestep."""
    width: Float[Tensor, " places"]
    """w_t above."""
    probability: Float[Tensor, " places"]
    """q_t above; the sum is 1."""

    @classmethod
    def of(cls, path: NoisePath, loc: float | None = None, scale: float = 1.0, within: Range = EVERYWHERE) -> "Axis":
        """The axis of a noise path.

        Points are sampled evenly over logSNR. With `loc` they are sampled from a logistic with this location and `scale`, mixed with
        `FLOOR`.

        Args:
            within: the least and the greatest logSNR. Models on different paths are compared over their `shared_range`.

        Raises:
            ExpungeError: the path has fewer than two timesteps with finite logSNR there.
        """
        t = path.whole_times
        a = path.log_snr(t).cpu()
        inside = a.isfinite() & (within[0] <= a) & (a <= within[1])
        t, a = t[inside], a[inside]
        if len(t) < 2:
            raise ExpungeError(
                f"The noise path has {len(t)} timesteps with a finite logSNR from {within[0]:.3g} to {within[1]:.3g}, but two are needed.",
                rule="schedule-too-short",
                value=len(t),
                hint="Try a wider range of logSNR, or a model with another noise schedule.",
            )
        gaps = -a.diff()
        width = (torch.cat([gaps, gaps.new_zeros(1)]) + torch.cat([gaps.new_zeros(1), gaps])) / 2
        even = width / width.sum()
        if loc is None:
            return cls(t, a, width, even)
        logistic = width / torch.cosh((a - loc) / (2 * scale)) ** 2
        return cls(t, a, width, FLOOR * even + (1 - FLOOR) * logistic / logistic.sum())

    def fit_logistic(self, log_snr: Float[Tensor, " m"], weight: Float[Tensor, " m"]) -> tuple[float, float]:
        """`loc` and `scale` of the logistic whose mean and standard deviation over logSNR are those of points with these weights."""
        weight = weight.clamp(min=0) + 1e-12
        loc = (weight * log_snr).sum() / weight.sum()
        spread = ((weight * (log_snr - loc) ** 2).sum() / weight.sum()).sqrt()
        # The standard deviation of a logistic is pi / sqrt(3) times its scale. The lower bound avoids tails with only the floor.
        return loc.item(), max(spread.item() * math.sqrt(3) / math.pi, 0.5)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
        """Sample timesteps and their weights w_t / q_t: two consecutive ones in each of `draws` / 2 strata of equal probability.

        Raises:
            ExpungeError: `draws` is odd or below 2.
        """
        if draws < 2 or draws % 2:
            raise ExpungeError(
                f"The number of draws is {draws}, but points are sampled in pairs to estimate their error.",
                rule="draws-not-even",
                value=draws,
                hint="Try an even number of draws.",
            )
        strata = torch.arange(draws // 2).repeat_interleave(2)
        u = (strata + torch.rand(draws, generator=generator, dtype=torch.float64)) / (draws // 2)
        at = torch.searchsorted(self.probability.cumsum(0), u).clamp(max=len(self.t) - 1)
        return self.t[at], (self.width / self.probability)[at]


@dataclass(frozen=True)
class Estimate:
    """The information between each image and its prompt."""

    nats: Float[Tensor, " n"]
    """The estimate for each image."""
    se: Float[Tensor, " n"]
    """Standard error over sampled noise and noise levels, for the given image."""

    @property
    def mean_se(self) -> float:
        """Standard error of the mean over these images, from sampled noise and noise levels alone."""
        return self.se.square().sum().sqrt().item() / len(self.se)

    @classmethod
    def of(cls, gains: Float[Tensor, "n draws"], weights: Weights) -> "Estimate":
        """The estimate from the integrand at each point. The two points of a stratum are independent and identically distributed, so half
        their difference estimates its error."""
        each = gains.double() * weights
        differences = each[:, 0::2] - each[:, 1::2]
        return cls(each.mean(1), (differences / 2).square().sum(1).sqrt() / differences.shape[1])


def points(x_0: Latents, given: Cond, axis: Axis, draws: int, seeds: list[int], path: NoisePath) -> tuple[Noised, Weights]:
    """Sample `draws` noised points of each image under its prompt, one after the other, with the weight of each.

    The weight is that of a squared difference of predictions at the point: w_t / q_t times the square of d eps / d prediction.

    The points of an image are a function of its seed alone, and do not depend on the other images.
    """
    sampled = [_sample_points(x_0.shape[1:], axis, draws, seed) for seed in seeds]
    t, weights, noise = (torch.stack(parts) for parts in zip(*sampled, strict=True))
    rows = [i for i in range(len(x_0)) for _ in range(draws)]
    t, noise = t.flatten().to(x_0.device), noise.flatten(0, 1).to(x_0)
    keys = tuple(f"meter/{seed}/{k}" for seed in seeds for k in range(draws))
    clean, cond = x_0[rows], given.expand(len(x_0))[rows]
    x = Noised(path.add_noise(clean, noise, t), t, cond, keys, path.goal(clean, noise, t))
    return x, weights * path.eps_scale(t.cpu()).view(weights.shape) ** 2


def _sample_points(shape: torch.Size, axis: Axis, draws: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Timesteps, weights and noise of one image."""
    generator = torch.Generator().manual_seed(seed)
    t, weight = axis.draw(draws, generator)
    return t, weight, torch.randn(draws, *shape, generator=generator)


@torch.no_grad()
def predictions(network: Network, x: Point, cond: Cond) -> Latents:
    """The network's predictions under `cond` at all points, in batches. `cond` has one row, one for each image, or one for each point.

    Raises:
        ExpungeError: rule "not-finite".
    """
    cond = cond if len(cond) in (1, len(x)) else cond[[i for i in range(len(cond)) for _ in range(len(x) // len(cond))]]
    given = x.given(cond)
    found = torch.cat([network(given[slice(start, start + BATCH)]).float() for start in range(0, len(x), BATCH)])
    refuse_non_finite(found, "The network's predictions")
    return found


def pointwise(
    network: Network,
    x_0: Latents,
    given: Cond,
    without: Cond,
    path: NoisePath,
    *,
    axis: Axis | None = None,
    draws: int = 32,
    seed: int = 0,
    form: Form = "orthogonal",
    maker: Network | None = None,
) -> Estimate:
    """Estimate i(x; y) of each image, where `given` is a prompt with y and `without` is the same prompt without it.

    Args:
        network: From a `Point` to a prediction, in the units that `path` names.
        x_0: Clean latents. For their mean to be the information of y, sample them from p(x | y), without guidance.
        given: One row, or one for each image.
        without: One row, or one for each image.
        path: The noise path, and what the network predicts on it.
        axis: Default even over logSNR. An axis with `loc` near the largest integrand has a smaller standard error.
        draws: Points of each image, an even number. More reduce the standard error and cost two forwards each.
        seed: The seed of the points.
        form: What replaces the noise in the integrand.
        maker: The network that made the images, for the form `expected`.

    Raises:
        ExpungeError: the form is `expected` and `maker` is missing.
    """
    if form == "expected" and maker is None:
        raise ExpungeError(
            "The form 'expected' needs the network that made the images, but `maker` is None.",
            rule="no-maker",
            value=None,
            hint="Try another form, or give `maker`.",
        )
    seeds = [seed_of("meter", seed, i) for i in range(len(x_0))]
    x, weights = points(x_0, given, axis or Axis.of(path), draws, seeds, path)
    with_it, without_it = predictions(network, x, given), predictions(network, x, without)
    goal = x.goal if form == "standard" else predictions(maker, x, given) if form == "expected" and maker else with_it
    return Estimate.of(gain(goal, without_it, with_it).sum((1, 2, 3)).view(len(x_0), draws).cpu(), weights)
