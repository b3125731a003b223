"""Which numbers of a network a loss would move most."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from expunge.errors import ExpungeError


def salient(slopes: Mapping[str, Float32[Tensor, "..."]], share: float) -> dict[str, Bool[Tensor, "..."]]:
    """By name, the entries whose magnitude is among the largest `share` of all tensors together: |g| >= gamma, equal ones included.

    gamma is exact, found without sorting or copying the tensors together, of which a U-Net has a billion numbers: the bit patterns
    of floats that are not negative are ordered as the floats are, so counting by their upper halves, and then by the lower ones
    within the half where the share is reached, finds the pattern of gamma.

    Raises:
        ExpungeError: a slope is not finite (it would pass for the largest of all).
    """
    if bad := next((name for name, slope in slopes.items() if not torch.isfinite(slope).all()), None):
        raise ExpungeError(f"saliency is measured by finite slopes: one of {bad} is infinite or NaN; use fp32")
    left = max(1, round(share * sum(slope.numel() for slope in slopes.values())))
    upper, left = _reached(_counts(_pattern(slope) >> 16 for slope in slopes.values()), left)
    within = (pattern[pattern >> 16 == upper] for pattern in map(_pattern, slopes.values()))
    lower, _ = _reached(_counts(pattern & 0xFFFF for pattern in within), left)
    return {name: _pattern(slope) >= (upper << 16 | lower) for name, slope in slopes.items()}


def _pattern(slope: Float32[Tensor, "..."]) -> Int[Tensor, "..."]:
    return slope.abs().view(torch.int32)


def _counts(halves: Iterator[Int[Tensor, "..."]]) -> Int[Tensor, " values"]:
    return torch.stack([torch.bincount(half.flatten(), minlength=1 << 16) for half in halves]).sum(0)


def _reached(counts: Int[Tensor, " values"], wanted: int) -> tuple[int, int]:
    """The value at which `wanted` are reached, counting from the largest down, and how many of its own are among them."""
    from_top = counts.flip(0).cumsum(0)
    place = int((from_top < wanted).sum())
    value = len(counts) - 1 - place
    return value, wanted - int(from_top[place] - counts[value])
