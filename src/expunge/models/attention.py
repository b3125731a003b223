"""Where a network looks in its prompt: cross-attention maps, and which tokens of a prompt are the concept's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from expunge.diffusion.types import Maps, Spans
from expunge.errors import ExpungeError


class Recorder:
    """A diffusers attention processor that keeps softmax(Q K^T / sqrt(d)), which the fast ones never hold in memory."""

    def __init__(self, maps: Maps):
        self.maps = maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "b pixels width"],
        encoder_hidden_states: Float[Tensor, "b tokens context"],
        attention_mask: Tensor | None = None,
        **ignored: Any,
    ) -> Float[Tensor, "b pixels width"]:
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        mask = attn.prepare_attention_mask(attention_mask, encoder_hidden_states.shape[1], len(hidden_states))
        q, k, v = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        # Batch and heads share the first axis, a picture's heads side by side.
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


def spans(tokenizer: Any, prompts: list[str], names: tuple[str, ...]) -> Spans:
    """What each token of each prompt is, padded as the text encoder reads it.

    Raises:
        ExpungeError: a prompt in which none of the names is found.
    """
    wanted = [tokenizer(name, add_special_tokens=False).input_ids for name in names]
    found = {prompt: _span(tokenizer(prompt).input_ids, wanted, tokenizer.model_max_length) for prompt in dict.fromkeys(prompts)}
    if odd := next((prompt for prompt, row in found.items() if 1 not in row), None):
        raise ExpungeError(f"a forget prompt holds the concept's words: {odd!r} holds none of {', '.join(names)}; name it as prompts do")
    return torch.tensor([found[prompt] for prompt in prompts])


def _span(ids: list[int], wanted: list[list[int]], length: int) -> list[int]:
    end = len(ids) - 1
    row = [0] * end + [2] + [3] * (length - end - 1)
    for name in wanted:
        for start in range(1, end - len(name) + 1):
            if ids[start : start + len(name)] == name:
                row[start : start + len(name)] = [1] * len(name)
    return row
