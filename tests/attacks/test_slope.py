"""Gradients by words, through a network in half precision."""

import tiny
import torch
from raising import raises_error
from torch import Tensor

from expunge.attacks._coordinate_search import differentiate
from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Cond, Point
from expunge.errors import NonFiniteLoss
from expunge.models.quiet import quiet
from expunge.models.text_encoder import BLANK, Words


def tilted(dtype: torch.dtype, found, share: float) -> Tensor:
    """The gradient of a share of a denoising loss by the vectors of a word."""
    model = tiny.model()
    words = Words(model)
    written, vectors = words.write([f"a {BLANK}"]), words.vectors(torch.tensor([[300]])).requires_grad_()
    with quiet():
        model.pipeline.to(dtype)
    x_t, noise = (torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    point = Point(x_t, torch.tensor([400]), Cond(words.encode(written, vectors), ("",)), ("",))
    return found(share * squared_error(model.predict(point), noise).mean(), vectors).flatten()


def plainly(loss: Tensor, vectors: Tensor) -> Tensor:
    return torch.autograd.grad(loss, [vectors])[0]


def test_in_half_precision_it_points_where_it_does_in_whole():
    share = 2.0**-12  # as in a network that is deeper and latents that are larger
    true = tilted(torch.float32, plainly, share)
    mine, vanished = (torch.cosine_similarity(true, tilted(torch.float16, found, share), dim=0) for found in (differentiate, plainly))
    assert mine > 0.999
    assert vanished < 0.9


def test_in_whole_precision_no_digit_changes():
    assert torch.equal(tilted(torch.float32, differentiate, 1.0), tilted(torch.float32, plainly, 1.0))


def test_a_gradient_that_is_not_finite_is_told_of():
    vectors = torch.zeros(1, 2, requires_grad=True)
    with raises_error("non-finite-gradient", 0.0, "bf16 or fp32") as raised:
        differentiate(vectors.sum().sqrt(), vectors)
    assert isinstance(raised.value, NonFiniteLoss)
