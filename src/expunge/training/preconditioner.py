"""Preconditioned steps: as long in the directions that tell words apart as in those that words share.

Some matrices read words c as W c, in a U-Net the keys and values of cross-attention. Each has its own c: the states of a prompt's
tokens, a pooled vector, or in a later block of a transformer the text side of its stream. A gradient step on W is an outer product
with c, so it turns what all prompts have in common first, and a concept's neighbours with it; what sets the concept's word
apart has little of the variance of c and hardly moves. With A = E[c c^T] over the concept's prompts and those with others in
its place, let

    U = s (A + ridge mean-eigenvalue(A) I)^(-1/2),      s such that tr(U A U) = tr(A)

and let Adam step on D in W = W_0 + D U instead of on W: in D's coordinates tokens are white, but for the ridge.

Source: ours in this use. The input side of K-FAC (arXiv 1503.05671) preconditions by A^(-1); Adam in the coordinates of a
Kronecker-factored preconditioner is the idea of SOAP (arXiv 2409.11321). Closed forms (UCE) owe their precision to the same A.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.inputs import Group, groups, inputs
from expunge.models.scopes import SCOPES, Scope

PROMPTS = 512
"""The largest number of prompts that are encoded for A, spread evenly over all."""

CALLS = 64
"""The same where A takes a call of the network for each prompt."""


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
    """Steps on D in W = W_0 + D U for some weights W; on the others themselves.

    Args:
        u: U of each of those weights, by its name.
    """

    mixes_entries = True

    def __init__(self, u: Mapping[str, Float[Tensor, "width width"]]):
        self.u = u
        self._read: list[tuple[str, nn.Parameter]] = []
        self._of: Mapping[str, nn.Parameter] | None = None

    def _whitened(self, trained: Mapping[str, nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
        """The weights that have a U, or their low-rank factors that read the same, with the names of the weights."""
        if self._of is not trained:  # their names are searched once, and not at every step
            self._of = trained
            self._read = [(weight, p) for name, p in trained.items() if (weight := name.removesuffix(".A")) in self.u]
        return self._read

    def change_gradients(self, trained: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in self._whitened(trained):
            if parameter.grad is not None:
                parameter.grad = turned(parameter.grad, self.u[name])

    @contextmanager
    def stepping(self, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
        before = [parameter.detach().clone() for _, parameter in self._whitened(trained)]
        yield
        with torch.no_grad():
            for (name, parameter), old in zip(self._whitened(trained), before, strict=True):
                torch.add(old, turned(parameter - old, self.u[name]), out=parameter.data)


def turned(weight: Tensor, u: Float[Tensor, "width width"]) -> Tensor:
    """W U, at each place of a convolution's kernel."""
    return (weight.movedim(1, -1) @ u.to(weight)).movedim(-1, 1)


def make_preconditioner(model: DiffusionModel, concept: Subject, ridge: float, scope: Scope) -> Preconditioner:
    """The preconditioner of `Training.whiten` for the weights of a scope, on the model's device; a ridge of 0 gives the identity, and so do
    labels, which have no direction in common."""
    if not ridge or model.reads_labels:
        return Identity()
    reading = readers(model, scope)
    found = groups(model, reading)
    direct, hooked = ([group for group in found if group.reads_states is reads] for reads in (True, False))
    u = [whitener(tokens(model, concept), ridge) for _ in direct]
    u += [whitener_of(second.double(), ridge).float() for second in (second_moments(model, concept, hooked) if hooked else ())]
    each = {name: value.to(model.device) for group, value in zip((*direct, *hooked), u, strict=True) for name in group.weights(reading)}
    return Whitening(each)


def second_moments(model: DiffusionModel, concept: Subject, found: Sequence[Group]) -> list[Float[Tensor, "width width"]]:
    """E[c c^T] of what each group of layers reads, over calls of the network: one for each of `CALLS` prompts at most, without padding,
    from noise, at times that are spread evenly over the path."""
    texts, first = prompts_of(concept, CALLS), [group.layers[0] for group in found]
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(first, 0)
    for i, text in enumerate(texts):
        t = model.path.times(torch.full((1,), (i + 0.5) / len(texts))).to(model.device)
        for layer, read in inputs(model, first, model.encode([text]).trimmed, model.noise([i]), t).items():
            c = read.float().flatten(0, -2)
            sums[layer] = c.T @ c if layer not in sums else sums[layer] + c.T @ c
            counts[layer] += len(c)
    return [sums[layer] / counts[layer] for layer in first]


def calls(model: DiffusionModel, concept: Subject, ridge: float, scope: Scope) -> int:
    """How many calls of the network `make_preconditioner` makes."""
    if not ridge or model.reads_labels or all(re.search(model.reads_tokens, name) for name in readers(model, scope)):
        return 0
    return 1 + len(prompts_of(concept, CALLS))


def tokens(model: DiffusionModel, concept: Subject) -> Float[Tensor, "n width"]:
    """The states of the tokens of `prompts_of`."""
    return model.encode(prompts_of(concept, PROMPTS)).tokens.float()


def prompts_of(concept: Subject, count: int) -> list[str]:
    """At most `count` of the prompts to forget, the same with others in the concept's place or without it, and the empty one; in a
    sequence also of what was removed before, under every name, which no other prompt holds: steps along it would be long, and bring it
    back."""
    prompts = [p for part in concept.parts for p in part.forget()]
    before = [p for part in concept.parts for c in part.removed for p in c.by_every_name.forget()]
    named = {"", *(p.prompt for p in (*prompts, *before)), *(p.context for p in prompts), *(m for p in prompts for m in p.marginals)}
    texts = sorted(named)
    return texts[:: -(-len(texts) // count)]


def whitener(c: Float[Tensor, "n width"], ridge: float) -> Float[Tensor, "width width"]:
    """U of the module's docstring. With a larger `ridge` it is nearer to the identity."""
    wide = c.cpu().double()  # in double precision, which some accelerators lack
    return whitener_of(wide.T @ wide / len(wide), ridge).to(c)


def whitener_of(second: Float[Tensor, "width width"], ridge: float) -> Float[Tensor, "width width"]:
    """U from the second moment E[c c^T], in its precision."""
    values, vectors = torch.linalg.eigh(second.cpu())
    values = values.clamp(min=0)
    scale = (values + ridge * values.mean()).rsqrt()
    scale = scale * (values.sum() / (scale.square() * values).sum()).sqrt()
    return vectors * scale @ vectors.T


def refuse_whitening(model: DiffusionModel, scope: Scope, ridge: float) -> None:
    """Refuses whitened steps where no trained tensor reads words: they would change nothing, and the card would say that they had.

    Raises:
        ExpungeError: none of the scope's weights reads words.
    """
    if ridge and not model.reads_labels and not readers(model, scope):
        raise ExpungeError(
            f"Whitened steps change weights that read words, and {scope.name!r} trains none (whiten is {ridge}).",
            rule="nothing-to-whiten",
            value=ridge,
            hint="Try --whiten 0.",
        )


def readers(model: DiffusionModel, scope: Scope) -> list[str]:
    """The names of the scope's matrices that read words: keys and values of them, and where they enter."""
    known = [SCOPES[name] for name in ("xattn-kv", "entrance") if name in model.scopes]
    reading = {name for of in known for name, p in model.scope(of).items() if p.ndim == 2}
    return [name for name in model.scope(scope) if name in reading]
