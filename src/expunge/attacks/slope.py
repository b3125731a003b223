"""The gradient that attacks follow which look for words instead of weights."""

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.train import NonFiniteLoss

SCALE = 2.0**12
"""The gradient of a mean over a latent's thousands of numbers would vanish in fp16, which knows nothing below 6e-8. A power of two: in
other precisions no digit changes."""


def slope(loss: Float[Tensor, ""], vectors: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    """The gradient of a loss by the vectors of words, through networks that may compute in half precision.

    Raises:
        NonFiniteLoss: one that is not finite, by which no word can be found.
    """
    [found] = torch.autograd.grad(loss * SCALE, [vectors])
    if not torch.isfinite(found).all():
        raise NonFiniteLoss("a gradient is finite: that by the vectors of words is not; compute in bf16 or fp32")
    return found / SCALE
