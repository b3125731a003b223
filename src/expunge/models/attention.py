"""Cross-attention maps: where a network attends to each token of its prompt."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expunge.diffusion.types import Maps
from expunge.errors import ExpungeError

if TYPE_CHECKING:
    from diffusers.models.attention_processor import Attention


class Recorder:
    """A diffusers attention processor that keeps softmax(Q K^T / sqrt(d)), which the fast ones never hold in memory."""

    def __init__(self, maps: Maps):
        self.maps = maps

    def __call__(
        self,
        attn: "Attention",
        hidden_states: Float[Tensor, "b pixels width"],
        encoder_hidden_states: Float[Tensor, "b tokens context"],
        attention_mask: Tensor | None = None,
        **ignored: Any,
    ) -> Float[Tensor, "b pixels width"]:
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        mask = attn.prepare_attention_mask(attention_mask, encoder_hidden_states.shape[1], len(hidden_states))
        q, k, v = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        # Batch and heads share the first axis, an image's heads side by side.
        weights = attn.get_attention_scores(attn.head_to_batch_dim(q), attn.head_to_batch_dim(k), mask)
        self.maps.append(weights.unflatten(0, (-1, attn.heads)))
        out = attn.batch_to_head_dim(torch.bmm(weights, attn.head_to_batch_dim(v)))
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor


@contextmanager
def recorded(net: nn.Module) -> Iterator[Maps]:
    """The maps of every layer of cross-attention, of each call of `net` for as long as the context lasts, in the order of use."""
    maps: Maps = []
    layers = [module for name, module in net.named_modules() if name.endswith(".attn2")]
    kept = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.set_processor(Recorder(maps))
        yield maps
    finally:
        for layer, processor in zip(layers, kept, strict=True):
            layer.set_processor(processor)


def no_attention_maps(family: str) -> ExpungeError:
    """The error where attention maps are asked of a family that has none."""
    return ExpungeError(
        f"A {family} model has no cross-attention maps, which this method trains on.",
        rule="no-attention-maps",
        value=family,
        hint="Try another method; `expunge ls methods` lists all.",
    )
