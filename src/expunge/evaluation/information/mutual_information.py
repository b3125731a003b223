"""How many nats of information a prompt gives about a picture, by a network's own predictions of noise: no classifier looks.

At logSNR a, a picture x stands as x_a = sqrt(sigmoid(a)) x + sqrt(sigmoid(-a)) eps. With the best predictions of the noise, with
and without a prompt y beside what else is known,

    i(x; y) = log p(x | y) / p(x) = 1/2 integral over a of  E_eps [ || eps - eps(x_a) ||^2 - || eps - eps(x_a | y) ||^2 ]

and the mean over pictures of y is the information that y gives. Guidance plays no part: it is a way to draw, not to predict.

**The integral on whole timesteps.** A noise path stands at a_t = log(signal_t^2 / sigma_t^2), which falls with t. Over its
timesteps the integral is a sum, by the trapezoid rule:

    integral of f(a) da  ~  sum_t w_t f(a_t),    w_t = (a_{t-1} - a_{t+1}) / 2,  at both ends half of the only gap

A sum over t alone, as losses have it, would weigh noise levels by how long the schedule dwells there: w_t is about
beta_t / (1 - abar_t) on a discrete schedule. The weights add up to a_0 - a_{T-1}: what lies beyond the least and the most noise
of the schedule is out of reach and not counted. A timestep that is drawn with probability q_t stands for w_t / q_t.

**Other predictions.** Networks that predict v, x_0 or a flow are compared in their own units, and the squared difference is
multiplied by the square of d eps / d prediction: the integral depends on the signal-to-noise ratio alone.

**Three forms** of the integrand, which differ in what stands for the noise in || n - eps(x_a) ||^2 - || n - eps(x_a | y) ||^2:

- `standard`: the noise itself. Right for any picture and any network that is a good model; by far the noisiest.
- `orthogonal`: the network's own eps(x_a | y), so || eps(x_a) - eps(x_a | y) ||^2 remains. Of the same mean over pictures of the
  network's own p(x | y), never negative, quiet. But it counts how far the prompt moves the prediction, in whatever direction: a
  network that draws a disc when it is asked for a ring is said to know rings.
- `expected`: the prediction eps_*(x_a | y) of the network that made the pictures, which is what to expect of the noise at x_a.
  For that network it is the orthogonal form; for another, the standard form without most of its noise. Below zero, the prompt
  makes such a picture less likely than no prompt does.

So a single network is measured by `orthogonal`, and one network on the pictures of another by `expected`.

Source: arXiv 2310.07972 for the standard and the orthogonal form and for importance sampling by a logistic over logSNR; the form
`expected`, the fit of the logistic and the stratification are ours.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.decomposition import gain
from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Cond, Latents, Network, Noised, Point, Times
from expunge.errors import ExpungeError
from expunge.storage.hashing import seed_of

Form = Literal["expected", "orthogonal", "standard"]
Weights = Float[Tensor, "n draws"]
"""What each draw of each picture stands for: the length of the path that it represents."""

BATCH = 64
"""Points that a network is given at a time."""
FLOOR = 0.2
"""The share of draws that go evenly over the path whatever the proposal says, so that no point's weight is ever large."""


@dataclass(frozen=True)
class Axis:
    """The noise path by logSNR: where its timesteps lie, how much of the integral each is, and how often each is drawn."""

    t: Times
    """The timesteps whose logSNR is finite, the least noisy first."""
    log_snr: Float[Tensor, " places"]
    width: Float[Tensor, " places"]
    """w_t above."""
    chance: Float[Tensor, " places"]
    """q_t above; 1 in all."""

    @classmethod
    def of(cls, path: NoisePath, loc: float | None = None, scale: float = 1.0) -> "Axis":
        """The axis of a path. Draws go evenly over logSNR, or with `loc` by a logistic around it, of that `scale`, and a floor.

        Raises:
            ExpungeError: fewer than two timesteps between nothing but picture and nothing but noise.
        """
        t = path.whole_times
        a = path.log_snr(t).cpu()
        t, a = t[a.isfinite()], a[a.isfinite()]
        if len(t) < 2:
            raise ExpungeError(
                f"The noise path has {len(t)} timesteps between image and noise, and an integral needs two.",
                rule="short-noise-path",
                value=len(t),
                hint="Try a model with another scheduler.",
            )
        gaps = -a.diff()
        width = (torch.cat([gaps, gaps.new_zeros(1)]) + torch.cat([gaps.new_zeros(1), gaps])) / 2
        even = width / width.sum()
        if loc is None:
            return cls(t, a, width, even)
        logistic = width / torch.cosh((a - loc) / (2 * scale)) ** 2
        return cls(t, a, width, FLOOR * even + (1 - FLOOR) * logistic / logistic.sum())

    def fitted(self, log_snr: Float[Tensor, " m"], weight: Float[Tensor, " m"]) -> tuple[float, float]:
        """`loc` and `scale` of the logistic with the mean and the spread over logSNR that points of these weights have."""
        weight = weight.clamp(min=0) + 1e-12
        loc = (weight * log_snr).sum() / weight.sum()
        spread = ((weight * (log_snr - loc) ** 2).sum() / weight.sum()).sqrt()
        # A logistic's standard deviation is pi / sqrt(3) of its scale; a narrow one would leave the tails to the floor.
        return loc.item(), max(spread.item() * math.sqrt(3) / math.pi, 0.5)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
        """Timesteps, and the weight w_t / q_t of each: two in each of `draws` / 2 strata of equal probability, one after the other.

        Raises:
            ExpungeError: no pairs.
        """
        if draws < 2 or draws % 2:
            raise ExpungeError(f"points are drawn in pairs, which tell how sure the estimate is: draws is {draws}; give an even number")
        strata = torch.arange(draws // 2).repeat_interleave(2)
        u = (strata + torch.rand(draws, generator=generator, dtype=torch.float64)) / (draws // 2)
        at = torch.searchsorted(self.chance.cumsum(0), u).clamp(max=len(self.t) - 1)
        return self.t[at], (self.width / self.chance)[at]


@dataclass(frozen=True)
class Estimate:
    """The information between each picture and its prompt."""

    nats: Float[Tensor, " n"]
    se: Float[Tensor, " n"]
    """Standard error over draws of noise and noise level: how far off the integral may be, the picture as it is."""

    @property
    def mean_se(self) -> float:
        """The standard error over draws of the mean over these pictures."""
        return self.se.square().sum().sqrt().item() / len(self.se)

    @classmethod
    def of(cls, gains: Float[Tensor, "n draws"], weights: Weights) -> "Estimate":
        """From what each draw gained. Draws of a stratum are independent and alike, so half their difference is its error."""
        each = gains.double() * weights
        differences = each[:, 0::2] - each[:, 1::2]
        return cls(each.mean(1), (differences / 2).square().sum(1).sqrt() / differences.shape[1])


def points(x_0: Latents, given: Cond, axis: Axis, draws: int, seeds: list[int], path: NoisePath) -> tuple[Noised, Weights]:
    """`draws` noised points of each picture under its prompt, in a row, and the weight of each squared difference of predictions there:
    the length of the path that the point stands for, times the square of what a difference of predictions is as one of noise.

    Each picture's are a function of its seed alone, whatever pictures are beside it.
    """
    drawn = [_drawn(x_0.shape[1:], axis, draws, seed) for seed in seeds]
    t, weights, noise = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    rows = [i for i in range(len(x_0)) for _ in range(draws)]
    t, noise = t.flatten().to(x_0.device), noise.flatten(0, 1).to(x_0)
    keys = tuple(f"meter/{seed}/{k}" for seed in seeds for k in range(draws))
    clean, cond = x_0[rows], given.expand(len(x_0))[rows]
    x = Noised(path.add_noise(clean, noise, t), t, cond, keys, path.goal(clean, noise, t))
    return x, weights * path.eps_scale(t.cpu()).view(weights.shape) ** 2


def _drawn(shape: torch.Size, axis: Axis, draws: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    t, weight = axis.draw(draws, generator)
    return t, weight, torch.randn(draws, *shape, generator=generator)


@torch.no_grad()
def predictions(network: Network, x: Point, cond: Cond) -> Latents:
    """The network's predictions under `cond` at all points, a few at a time.

    One row of `cond`, one for each picture, or one for each point.
    """
    cond = cond if len(cond) in (1, len(x)) else cond[[i for i in range(len(cond)) for _ in range(len(x) // len(cond))]]
    given = x.given(cond)
    return torch.cat([network(given[slice(start, start + BATCH)]).float() for start in range(0, len(x), BATCH)])


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
    """i(x; y) of each picture, where `given` is a prompt with y and `without` the same without it.

    Args:
        network: from a `Point` to a prediction, in the units that `path` names.
        x_0: clean latents. For a mean that is the information of y, drawn from p(x | y): without guidance.
        axis: default evenly over logSNR. One whose `loc` is where the network says most has a smaller standard error.
        draws: points of each picture, an even number. More have a smaller standard error and cost two forwards each.
        maker: the network that made the pictures, for the form `expected`.

    Raises:
        ExpungeError: `expected` without a `maker`.
    """
    if form == "expected" and maker is None:
        raise ExpungeError("the form 'expected' takes the noise from the network that made the pictures: maker is None; give it")
    seeds = [seed_of("meter", seed, i) for i in range(len(x_0))]
    x, weights = points(x_0, given, axis or Axis.of(path), draws, seeds, path)
    with_it, without_it = predictions(network, x, given), predictions(network, x, without)
    goal = x.goal if form == "standard" else predictions(maker, x, given) if form == "expected" and maker else with_it
    return Estimate.of(gain(goal, without_it, with_it).sum((1, 2, 3)).view(len(x_0), draws).cpu(), weights)
