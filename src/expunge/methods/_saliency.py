"""Select the weights with the largest gradients."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from expunge.errors import ExpungeError


def select_salient(gradients: Mapping[str, Float32[Tensor, "..."]], share: float) -> dict[str, Bool[Tensor, "..."]]:
    """A mask by name of the entries whose magnitude is among the largest `share` of all tensors together: |g| >= gamma, including ties.

    gamma is exact and found without sorting or copying the tensors, which have a billion numbers for a U-Net. The bit patterns of
    non-negative floats are ordered like the floats. The upper halves of the patterns are counted first, then the lower halves within the
    upper half that contains gamma.

    Args:
        gradients: Gradients by the name of the weight.
        share: The share of entries to select, above 0 and at most 1.

    Raises:
        ExpungeError: a gradient is not finite, which would count as the largest.
    """
    if bad := next((name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()), None):
        raise ExpungeError(
            f"The gradient of {bad} is infinite or NaN, so saliency cannot be ranked.",
            rule="gradient-not-finite",
            value=bad,
            hint="Try fp32.",
        )
    left = max(1, round(share * sum(gradient.numel() for gradient in gradients.values())))
    upper, left = _find_value(_counts(_pattern(gradient) >> 16 for gradient in gradients.values()), left)
    within = (pattern[pattern >> 16 == upper] for pattern in map(_pattern, gradients.values()))
    lower, _ = _find_value(_counts(pattern & 0xFFFF for pattern in within), left)
    return {name: _pattern(gradient) >= (upper << 16 | lower) for name, gradient in gradients.items()}


def _pattern(gradient: Float32[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The bit patterns of the magnitudes as integers."""
    return gradient.abs().view(torch.int32)


def _counts(halves: Iterator[Int[Tensor, "..."]]) -> Int[Tensor, " values"]:
    """How often each value of 16 bits occurs in the tensors."""
    return torch.stack([torch.bincount(half.flatten(), minlength=1 << 16) for half in halves]).sum(0)


def _find_value(counts: Int[Tensor, " values"], wanted: int) -> tuple[int, int]:
    """The value at which `wanted` entries are counted from the largest value down, and how many of its own entries are among them."""
    from_top = counts.flip(0).cumsum(0)
    place = int((from_top < wanted).sum())
    value = len(counts) - 1 - place
    return value, wanted - int(from_top[place] - counts[value])
