"""Training that leaves out how the start token is read."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel


@contextmanager
def fixed_start(model: DiffusionModel) -> Iterator[None]:
    """Within the context the layers that read token states get no gradient from the first token of each prompt. No prediction changes.

    The backward pass must be within it too, where activations are computed again.

    Raises:
        ExpungeError: as `start_readers`.
    """
    with ExitStack() as hooks:
        for layer in start_readers(model):
            hooks.callback(layer.register_forward_hook(_detach_first).remove)
        yield


def start_readers(model: DiffusionModel) -> list[nn.Module]:
    """The layers that read the states of prompts which begin with a start token.

    Raises:
        ExpungeError: no layer reads the states directly, or the text encoder has no start token.
    """
    layers = [layer for name, layer in model.network.named_modules() if re.search(model.reads_tokens, f"{name}.weight")]
    tokenizers = [reading.tokenizer for reading in model.readings if reading.has_rows][:1]
    if not layers or not any(tokenizer("").input_ids[:1] == [tokenizer.bos_token_id] for tokenizer in tokenizers):
        raise ExpungeError(
            f"Keys and values of {model.name} read no start token, so they cannot leave it out.",
            rule="no-start-token",
            value=model.name,
            hint="Try --start-token trained.",
        )
    return layers


def _detach_first(layer: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
    return torch.cat([out[:, :1].detach(), out[:, 1:]], dim=1)
