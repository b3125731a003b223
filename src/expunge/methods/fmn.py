"""Forget-Me-Not (FMN)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.methods.base import Objective, Training
from expunge.models.scopes import SCOPES, Scope

READERS = Scope("xattn-qk")
"""Queries and keys of cross-attention, on which attention maps depend."""


@dataclass(frozen=True)
class FMN(Objective):
    """Minimise cross-attention to the concept's tokens, in every layer (Forget-Me-Not).

    Choose it as a quick baseline: it needs few steps, no teacher and no anchor. On the canvas it removes two of three styles and almost
    none of the objects (docs/results/index.md). The loss says which tokens a pixel must not attend to, not what the image should show. The
    other tokens decide what is generated instead, so a concept that they encode too remains. Nothing preserves other concepts: more steps
    damage more.

        L = mean over layers, points, heads, pixels of  sum_{i in S} A_i^2,      A = softmax(Q K^T / sqrt(d)),  x_0 ~ D_f,  t,  eps

    with S the tokens that `tokens` selects.

    Source: arXiv 2303.17591, attention re-steering. The paper first inverts images of the concept into a new token; here the concept's
    words are known and take its place. The paper uses the concept's tokens. Its released code also uses the end of the text, and padding
    where that repeats the end, as in Stable Diffusion 1.x. It takes one norm, not squared, over all layers, so that large layers dominate,
    and trains the whole U-Net. Ours are `tokens`, equal weights of the layers, so that the loss has the same scale for every model, and the
    scope: queries and keys, since the maps of the last layer do not depend on its values.
    """

    tokens: Literal["words", "end", "padding"] = "end"
    """The tokens S: the concept's `words` alone; with the `end` of the text, in which a causal text encoder summarises the prompt; or with
    `padding` too. Each forgets more than the one before and damages more, because every prompt has an end and padding."""
    variant: Literal["xattn-qk", "xattn", "full"] = "xattn-qk"
    """Which weights are trained: queries and keys of cross-attention, all of cross-attention, or all weights (the released code). The
    values of the last layer and later layers get no gradient."""

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
