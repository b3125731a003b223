"""What each place of an image says about a prompt, and how much of it another prompt says too.

The pointwise information of an image and a prompt y is the integral over the noise path of how far y moves the best prediction
of the noise, which is also true place by place:

    i(u) = 1/2 integral over t of  w_t sum over channels of ( eps(x_t) - eps(x_t | y) )^2 (u)

and two prompts' information splits into what both give, r = min(i_1, i_2), and what each alone gives, i_k - r. MiM-PID uses only
ratios of maps at the same t, so w_t drops out, and a map at one t stands for the share at that t; `meter` takes the integral.

Source: arXiv 2310.07972 for the pointwise information, 2406.05191 (DiffusionPID) for decomposing it; the minimum as what is
redundant is the simplest of the known choices, and counts two prompts that move a place in different directions as agreeing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Latents, Noised
from expunge.storage.hashing import digest

Maps = Float[Tensor, "b 1 h w"]


def information(without: Latents, given: Latents) -> Maps:
    """1/2 of the squared difference that a prompt makes to a prediction, summed over channels: a map for each point."""
    return gain(given, without, given)


def gain(noise: Latents, without: Latents, given: Latents) -> Maps:
    """How much nearer to `noise` a prompt brings the prediction: 1/2 ( || noise - without ||^2 - || noise - given ||^2 ), at each place."""
    return 0.5 * ((noise - without).square() - (noise - given).square()).sum(1, keepdim=True)


@dataclass(frozen=True)
class Parts:
    """What two prompts say of each place, split: i(x; y_1, y_2) = redundant + unique + unique_other + synergistic."""

    total: Maps
    """i(x; y_1) = redundant + unique."""
    redundant: Maps
    """What either says, min(i_1, i_2); nothing where one of them misleads, i_k < 0."""
    unique: Maps
    """What the first alone says, i_1 - r."""
    unique_other: Maps
    """What the second alone says, i_2 - r."""
    synergistic: Maps
    """What only both together say, i_12 - i_1 - i_2 + r. Negative where both together say less than the better of the two."""


def decomposed(first: Maps, second: Maps, both: Maps) -> Parts:
    """The information of two prompts and of both together as the four parts that they are made of."""
    shared = torch.minimum(first.clamp(min=0), second.clamp(min=0))
    return Parts(first, shared, first - shared, second - shared, both - first - second + shared)


def smoothed(maps: Maps, radius: int) -> Maps:
    """Means over squares of `2 * radius + 1`, at the edge over what there is of them. Larger is less noisy and less sharp."""
    return F.avg_pool2d(maps, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def shares(target: Maps, other: Maps, delta: float) -> tuple[Maps, Maps]:
    """Of the target's information at each place, the share that it alone gives, and the share that the other prompt gives too.

    They add up to i / (i + delta times the map's mean): with a larger `delta`, places that say little count less.
    """
    both = torch.minimum(target, other)
    whole = (target + delta * target.mean((2, 3), keepdim=True)).clamp(min=1e-20)
    return (target - both) / whole, both / whole


def redrawn(x: Noised, path: NoisePath, draw: int) -> Noised:
    """The same images at the same times under other noise, a function of each point's key and `draw`; 0 is the points themselves."""
    if draw == 0:
        return x
    # Where the schedule ends in nothing but noise there is no image to find, and none is needed.
    x_0 = path.x_0(x.goal, x.x_t, x.t).nan_to_num(0.0, 0.0, 0.0)
    generators = (torch.Generator().manual_seed(int(digest("redrawn", key, draw)[:15], 16)) for key in x.keys)
    noise = torch.stack([torch.randn(x.x_t.shape[1:], generator=g) for g in generators]).to(x.x_t)
    keys = tuple(f"{key}~{draw}" for key in x.keys)
    return Noised(path.add_noise(x_0, noise, x.t), x.t, x.cond, keys, path.goal(x_0, noise, x.t))
