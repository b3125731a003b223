"""Preconditioned steps: as long in the directions that tell words apart as in those that words share.

Some matrices read a prompt's tokens c as W c, in a U-Net the keys and values of cross-attention. A gradient step on W is an outer
product with c, so it turns what all prompts have in common first, and a concept's neighbours with it; what sets the concept's word
apart has little of the tokens' variance and hardly moves. With A = E[c c^T] over the concept's prompts and those with others in
its place, let

    U = s (A + ridge mean-eigenvalue(A) I)^(-1/2),      s such that tr(U A U) = tr(A)

and let Adam step on D in W = W_0 + D U instead of on W: in D's coordinates tokens are white, but for the ridge.

Source: ours in this use. The input side of K-FAC (arXiv 1503.05671) preconditions by A^(-1); Adam in the coordinates of a
Kronecker-factored preconditioner is the idea of SOAP (arXiv 2409.11321). Closed forms (UCE) owe their precision to the same A.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.scopes import Scope

PROMPTS = 512
"""The largest number of prompts that are encoded for A, spread evenly over all."""


class Preconditioner(ABC):
    """Changes the coordinates in which the optimizer steps."""

    mixes_entries: bool
    """Whether a step on one entry of a tensor moves others too."""

    @abstractmethod
    def change_gradients(self, trained: Mapping[str, nn.Parameter]) -> None:
        """Turns gradients on the weights into gradients on the optimizer's coordinates."""

    @abstractmethod
    def stepping(self, trained: Mapping[str, nn.Parameter]) -> AbstractContextManager[None]:
        """A context in which the optimizer steps. At its end the weights have moved by that step in their own coordinates."""


class Identity(Preconditioner):
    """Steps on the weights themselves."""

    mixes_entries = False

    def change_gradients(self, trained: Mapping[str, nn.Parameter]) -> None:
        pass

    def stepping(self, trained: Mapping[str, nn.Parameter]) -> AbstractContextManager[None]:
        return nullcontext()


class Whitening(Preconditioner):
    """Steps on D in W = W_0 + D U, for weights W that read tokens; on the others themselves.

    Args:
        u: U.
        reads: a regular expression for the names of those weights.
    """

    mixes_entries = True

    def __init__(self, u: Float[Tensor, "width width"], reads: str):
        self.u, self.reads = u, reads
        self._read: list[nn.Parameter] = []
        self._of: Mapping[str, nn.Parameter] | None = None

    def _readers(self, trained: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
        if self._of is not trained:  # their names are searched once, and not at every step
            self._of, self._read = trained, list(readers(trained, self.reads).values())
        return self._read

    def change_gradients(self, trained: Mapping[str, nn.Parameter]) -> None:
        for parameter in self._readers(trained):
            if parameter.grad is not None:
                parameter.grad = parameter.grad @ self.u.to(parameter.grad)

    @contextmanager
    def stepping(self, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
        before = [p.detach().clone() for p in self._readers(trained)]
        yield
        with torch.no_grad():
            for parameter, old in zip(self._readers(trained), before, strict=True):
                torch.add(old, (parameter - old) @ self.u.to(parameter), out=parameter.data)


def make_preconditioner(model: DiffusionModel, concept: Subject, ridge: float) -> Preconditioner:
    """The preconditioner of `Training.whiten`, on the model's device; a ridge of 0 gives the identity, and so do labels, which have no
    direction in common."""
    if not ridge or model.reads_labels:
        return Identity()
    return Whitening(whitener(tokens(model, concept), ridge).to(model.device), model.reads_tokens)


def tokens(model: DiffusionModel, concept: Subject) -> Float[Tensor, "n width"]:
    """What the network reads of the prompts to forget, of the same with others in the concept's place or without it, and of none; in a
    sequence also of what was removed before, under every name, which no other prompt holds: steps along it would be long, and bring it
    back."""
    prompts = [p for part in concept.parts for p in part.forget()]
    before = [p for part in concept.parts for c in part.removed for p in c.by_every_name.forget()]
    named = {"", *(p.prompt for p in (*prompts, *before)), *(p.context for p in prompts), *(m for p in prompts for m in p.marginals)}
    texts = sorted(named)
    return model.encode(texts[:: -(-len(texts) // PROMPTS)]).tokens.float()


def whitener(c: Float[Tensor, "n width"], ridge: float) -> Float[Tensor, "width width"]:
    """U of the module's docstring. With a larger `ridge` it is nearer to the identity."""
    wide = c.cpu().double()  # in double precision, which some accelerators lack
    values, vectors = torch.linalg.eigh(wide.T @ wide / len(wide))
    values = values.clamp(min=0)
    scale = (values + ridge * values.mean()).rsqrt()
    scale = scale * (values.sum() / (scale.square() * values).sum()).sqrt()
    return (vectors * scale @ vectors.T).to(c)


def refuse_whitening(model: DiffusionModel, scope: Scope, ridge: float) -> None:
    """Refuses whitened steps where no trained tensor reads tokens: they would change nothing, and the card would say that they had.

    Raises:
        ExpungeError: none of the scope's weights reads tokens.
    """
    if ridge and not model.reads_labels and not readers(model.scope(scope), model.reads_tokens):
        raise ExpungeError(
            f"Whitened steps change weights that read a prompt's tokens, and {scope.name!r} trains none (whiten is {ridge}).",
            rule="nothing-to-whiten",
            value=ridge,
            hint="Try --whiten 0.",
        )


def readers(trained: Mapping[str, nn.Parameter], reads: str) -> dict[str, nn.Parameter]:
    """Those of the tensors, or of their low-rank factors, whose input is a prompt's tokens."""
    return {name: p for name, p in trained.items() if re.search(reads, name.removesuffix(".A"))}
