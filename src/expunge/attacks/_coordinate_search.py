"""Greedy coordinate search over the words of prompts: what attacks by discrete words share."""

from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from expunge.errors import NonFiniteLoss
from expunge.models.text_encoder import Words

Losses = Callable[[Float[Tensor, "b blanks width"], list[int]], Float[Tensor, " b"]]
"""Of the vectors in the blanks of the prompts of some rows, the loss of each row, with gradient."""

Count = Annotated[int, Ge(1)]


class CoordinateSearch:
    """Lowers the loss of each row's words, one word at a time; every row goes its own way.

    A step takes the gradient of the loss with respect to the vector of each word. How much the loss should fall when word i becomes
    v, to first order, is g_i . (e_i - e_v). The `tries` most promising changes of one word that were not tried since the row last
    changed are evaluated, and the best of them is kept if the loss is lower; so the loss never rises.
    """

    def __init__(
        self, words: Words, candidates: Int[Tensor, " n"], losses: Losses, start: Int[Tensor, "rows blanks"], tries: int, batch: int
    ):
        self.words, self.candidates, self.function, self.ids, self.tries, self.batch = words, candidates, losses, start, tries, batch
        self.losses = torch.full((len(start),), torch.inf, device=start.device)
        """Of each row's words; infinite before the first step."""
        self._tried = torch.zeros(len(start), start.shape[1] * len(candidates), dtype=torch.bool, device=start.device)

    def step(self) -> None:
        best = self._promising()
        at, new = best // len(self.candidates), self.candidates[best % len(self.candidates)]
        trials = self.ids[:, None, :].expand(-1, self.tries, -1).scatter(2, at[:, :, None], new[:, :, None])
        losses = self._evaluated(trials)
        self._tried.scatter_(1, best, True)
        lowest, which = losses.min(1)
        better = lowest < self.losses
        self.ids = torch.where(better[:, None], trials[torch.arange(len(trials)), which], self.ids)
        self.losses = torch.where(better, lowest, self.losses)
        self._tried[better] = False

    def _promising(self) -> Int[Tensor, "rows tries"]:
        """The changes to try: word times candidates, plus candidate. Where all were tried, some again."""
        among, parts = self.words.vectors(self.candidates), []
        for rows in self._groups(1):
            vectors = self.words.vectors(self.ids[rows]).requires_grad_()
            losses = self.function(vectors, rows)
            towards = slope(losses.sum(), vectors)
            self.losses[rows] = torch.minimum(self.losses[rows], losses.detach())
            parts.append(((towards * vectors.detach()).sum(2, keepdim=True) - towards @ among.T).flatten(1))
        unchanged = (self.ids[:, :, None] == self.candidates).flatten(1)
        promise = torch.cat(parts).masked_fill(self._tried | unchanged, -torch.inf)
        order = promise.topk(min(self.tries, promise.shape[1])).indices
        return order[:, torch.arange(self.tries) % order.shape[1]]

    @torch.no_grad()
    def _evaluated(self, trials: Int[Tensor, "rows tries blanks"]) -> Float[Tensor, "rows tries"]:
        parts = []
        for rows in self._groups(self.tries):
            flat = trials[rows].flatten(0, 1)
            parts.append(self.function(self.words.vectors(flat), [r for r in rows for _ in range(self.tries)]).view(len(rows), -1))
        return torch.cat(parts)

    def _groups(self, each: int) -> Iterator[list[int]]:
        """The rows in turn, as many as `batch` has room for where each takes `each`."""
        size = max(1, self.batch // each)
        for start in range(0, len(self.ids), size):
            yield list(range(start, min(start + size, len(self.ids))))


def drawn(candidates: Int[Tensor, " n"], rows: int, blanks: int, seed: int) -> Int[Tensor, "rows blanks"]:
    """Random words to begin from."""
    at = torch.randint(len(candidates), (rows, blanks), generator=torch.Generator().manual_seed(seed))
    return candidates[at.to(candidates.device)]


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
