"""Greedy search over the words of prompts by coordinate gradients, which several attacks use."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from expunge.errors import NonFiniteLoss
from expunge.models.text_encoder import Words

Losses = Callable[[Float[Tensor, "b blanks width"], list[int]], Float[Tensor, " b"]]
"""Returns the loss of each row, with gradient, from the word vectors in the blanks of the rows' prompts and the numbers of the rows."""


class CoordinateSearch:
    """Lower the loss of each row's words, one word at a time. Rows are independent of each other.

    A step computes the gradient g_i of the loss with respect to the vector e_i of each word. To first order, the loss falls by
    g_i . (e_i - e_v) when word i becomes v. Among the changes of one word that were not tried since the row last changed, the step
    evaluates the `tries` changes with the largest predicted fall, and keeps the best of them if the loss is lower. So the loss never rises.
    """

    def __init__(
        self, words: Words, candidates: Int[Tensor, " n"], losses: Losses, start: Int[Tensor, "rows blanks"], tries: int, batch: int
    ):
        self.words, self.candidates, self.function, self.ids, self.tries, self.batch = words, candidates, losses, start, tries, batch
        self.losses = torch.full((len(start),), torch.inf, device=start.device)
        """The loss of each row's words; infinite before the first step."""
        self._tried = torch.zeros(len(start), start.shape[1] * len(candidates), dtype=torch.bool, device=start.device)

    def step(self) -> None:
        """Change at most one word of each row."""
        best = self._select_changes()
        at, new = best // len(self.candidates), self.candidates[best % len(self.candidates)]
        trials = self.ids[:, None, :].expand(-1, self.tries, -1).scatter(2, at[:, :, None], new[:, :, None])
        losses = self._evaluate(trials)
        self._tried.scatter_(1, best, True)
        lowest, which = losses.min(1)
        better = lowest < self.losses
        self.ids = torch.where(better[:, None], trials[torch.arange(len(trials)), which], self.ids)
        self.losses = torch.where(better, lowest, self.losses)
        self._tried[better] = False

    def _select_changes(self) -> Int[Tensor, "rows tries"]:
        """The changes to try, each as word * number of candidates + candidate. Where all were tried, some are tried again."""
        among, parts = self.words.vectors(self.candidates), []
        for rows in self._split_rows(1):
            vectors = self.words.vectors(self.ids[rows]).requires_grad_()
            losses = self.function(vectors, rows)
            gradient = differentiate(losses.sum(), vectors)
            self.losses[rows] = torch.minimum(self.losses[rows], losses.detach())
            parts.append(((gradient * vectors.detach()).sum(2, keepdim=True) - gradient @ among.T).flatten(1))
        unchanged = (self.ids[:, :, None] == self.candidates).flatten(1)
        promise = torch.cat(parts).masked_fill(self._tried | unchanged, -torch.inf)
        order = promise.topk(min(self.tries, promise.shape[1])).indices
        return order[:, torch.arange(self.tries) % order.shape[1]]

    @torch.no_grad()
    def _evaluate(self, trials: Int[Tensor, "rows tries blanks"]) -> Float[Tensor, "rows tries"]:
        """The loss of each trial."""
        parts = []
        for rows in self._split_rows(self.tries):
            flat = trials[rows].flatten(0, 1)
            parts.append(self.function(self.words.vectors(flat), [r for r in rows for _ in range(self.tries)]).view(len(rows), -1))
        return torch.cat(parts)

    def _split_rows(self, each: int) -> Iterator[list[int]]:
        """The numbers of the rows in groups, such that a group makes at most `batch` evaluations if a row makes `each`."""
        size = max(1, self.batch // each)
        for start in range(0, len(self.ids), size):
            yield list(range(start, min(start + size, len(self.ids))))


def sample_words(candidates: Int[Tensor, " n"], rows: int, blanks: int, seed: int) -> Int[Tensor, "rows blanks"]:
    """Sample the words with which a search starts, uniformly from the candidates."""
    at = torch.randint(len(candidates), (rows, blanks), generator=torch.Generator().manual_seed(seed))
    return candidates[at.to(candidates.device)]


SCALE = 2.0**12
"""Factor of the loss during differentiation. Without it, the gradient of a mean over a latent's thousands of numbers underflows in fp16,
whose smallest number is 6e-8. It is a power of two, so results in other precisions do not change."""


def differentiate(loss: Float[Tensor, ""], vectors: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    """The gradient of a loss with respect to word vectors, through networks that may compute in half precision.

    Raises:
        NonFiniteLoss: The gradient is not finite.
    """
    [gradient] = torch.autograd.grad(loss * SCALE, [vectors])
    if not torch.isfinite(gradient).all():
        raise NonFiniteLoss(
            "The gradient with respect to the word vectors is not finite.",
            rule="non-finite-gradient",
            value=loss.item(),
            hint="Try --dtype bf16 or fp32.",
        )
    return gradient / SCALE
