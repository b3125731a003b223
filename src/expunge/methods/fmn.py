"""FMN: Forget-Me-Not."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.methods.base import Objective, Training
from expunge.models.scopes import SCOPES, Scope

READERS = Scope("xattn-qk")
"""What attention maps are made of."""


@dataclass(frozen=True)
class FMN(Objective):
    """Let the picture pay no attention to the concept's words, in every layer of cross-attention.

        L = mean over layers, points, heads, pixels of  sum_{i in S} A_i^2,      A = softmax(Q K^T / sqrt(d)),  x_0 ~ D_f,  t,  eps

    with S the tokens that `tokens` names. Choose it as a quick baseline: few steps, no teacher, no anchor. On the
    canvas it removes two of three styles and next to nothing of the objects (docs/results.md). It says where a pixel may not look, not
    what it is to show, so what is drawn instead is left to the other tokens, and a concept that they carry too stays. Nothing is held:
    more steps hurt the rest more.

    Source: arXiv 2303.17591, attention re-steering. The paper first inverts the concept's pictures into a token of its own; here the
    concept's words are known and are that token. The paper speaks of the concept's tokens; its released code marks the end of the
    text too, and padding where that repeats the end, as in Stable Diffusion 1.x. It takes one norm, not squared, over all layers,
    so that large ones count most, and trains the whole U-Net. Ours are `tokens`, layers that weigh alike, so that the loss means
    the same for any model, and the scope: queries and keys, since nothing in the last layer's maps depends on its values.
    """

    tokens: Literal["words", "end", "padding"] = "end"
    """S: the concept's `words` alone; with the `end` of the text, in which a causal text encoder sums up the prompt; or with `padding`
    too. Each forgets more than the one before, and hurts more, because every prompt has an end and padding."""
    variant: Literal["xattn-qk", "xattn", "full"] = "xattn-qk"
    """Which weights are trained: queries and keys of cross-attention, all of cross-attention, or everything (the released code). The
    last layer's values and what follows them get no gradient and stay."""

    training: ClassVar[Training] = Training(steps=60, lr=1e-3, batch_size=16)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "spans"})

    @property
    def scope(self) -> Scope:
        return READERS if self.variant == "xattn-qk" else SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        last = {"words": 1, "end": 2, "padding": 3}[self.tokens]
        chosen = ((batch.spans >= 1) & (batch.spans <= last))[:, None, None, :]
        squares = [(layer.square() * chosen).sum(-1).mean() for layer in models.attention(batch.forget)]
        return {"attention": torch.stack(squares).mean()}
