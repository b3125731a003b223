"""UCE: unified concept editing, in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.batch import Need
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.methods.base import Edit, EditPrompts
from expunge.models.scopes import SCOPES, Scope

Tokens = Float[Tensor, "tokens width"]
Eraser = Float[Tensor, "width width"]


@dataclass(frozen=True)
class UCE(Edit):
    """Let the keys and values of the concept's words become those of the anchor's words: one linear solve, no training.

    Choose it for speed (seconds, no pictures, no gradients), for many concepts at once, or as a first try. It changes only how
    words are read, so prompts whose words mean nearly the same pay first, and the network can still draw what no word asks for.
    The edit W' of each key and value matrix W is the minimum of

        J(W') = a sum_i || W' e_i - W g_i ||^2 + b sum_j || W' p_j - W p_j ||^2 + lam || W' - W ||^2

    with e_i, g_i, p_j the token states of the target, goal and retained prompts, a, b, lam the three fields. These are sums over
    all tokens of all prompts, so a concept spoken of in more prompts weighs more.

    Source: arXiv 2308.14761, equation 7; the three fields are the released code's, and so are the defaults but for
    `preserve_weight` (there 1; the smaller value forgets more on the canvas and hurts as little). Ours: the same minimum is
    W' = W T with one T for all matrices (`eraser`), where the released code inverts a matrix of that size in each layer. Ours
    too is which states are paired: those at the same position, at every position, padding included. Cross-attention reads them
    all and sums over them, so if each becomes its partner the output is the goal's although words have moved; and what a causal
    encoder gives before the concept is its own partner, hence kept. The authors' first release pairs the last word and what
    follows it, the present one the last word alone, so the same weights count more rows here. What a model conditions on
    besides token states, such as SDXL's pooled embedding, stays as it is.

    Raises:
        ExpungeError: a target prompt is its own goal (the edit would change nothing and say nothing), or the weights read
            states of another width than the prompts have.
    """

    erase_weight: Annotated[float, Ge(0)] = 1.0
    """a: larger maps the concept more exactly onto its goal, at the cost of what is retained; 0 changes nothing."""
    preserve_weight: Annotated[float, Ge(0)] = 0.1
    """b: larger keeps the retained prompts more exactly, at the cost of forgetting; 0 retains only by `ridge`, whatever the prompts are."""
    ridge: Annotated[float, Gt(0)] = 0.5
    """lam: pulls to the untouched weights in every direction, also those that no retained prompt names. Larger is a smaller edit."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"anchor", "retain"}) if self.preserve_weight else frozenset({"anchor"})

    @property
    def scope(self) -> Scope:
        return SCOPES["xattn-kv"]

    def __call__(self, weights: Mapping[str, Tensor], prompts: EditPrompts) -> dict[str, Tensor]:
        goal = prompts.goal.expand(len(prompts.target))
        _refuse_own_goals(prompts.target, goal)
        e, g, p = (cond.states.flatten(0, 1) for cond in (prompts.target, goal, prompts.retain))
        change = eraser(e, g, p, self.erase_weight, self.preserve_weight, self.ridge)
        return {name: _apply(name, weight, change) for name, weight in weights.items()}


def eraser(
    target: Tokens, goal: Tokens, retain: Float[Tensor, "others width"], erase_weight: float, preserve_weight: float, ridge: float
) -> Eraser:
    """The matrix T that turns each W into UCE's edit W T. With E, G, P the rows of target, goal and retained states,

        T = (lam I + a G^T E + b P^T P) (lam I + a E^T E + b P^T P)^-1 = I + a (G - E)^T E (lam I + a E^T E + b P^T P)^-1

    in float64 on the CPU, by a linear solve. W has left the formula because the goal W g_i is linear in W.
    This is ours, and so are its corollaries:
    T depends on nothing but the text encoder and the prompts, so it fits every checkpoint that shares that encoder;
    W T c = W (T c), so multiplying the prompts' states by T (rows: `states @ T.mT`) is the same edit with no weight changed;
    an edit by T1 followed by one by T2 is the edit by T1 T2.

    Raises:
        ExpungeError: `ridge` is not positive (the minimum need not be unique, nor the system solvable).
    """
    if not ridge > 0:
        raise ExpungeError(f"a ridge is positive: {ridge} is not; give a small one, for example 1e-6, for the largest edit")
    e, g, p = (rows.detach().to("cpu", torch.float64) for rows in (target, goal, retain))
    identity = torch.eye(e.shape[1], dtype=torch.float64)
    gram = ridge * identity + erase_weight * e.mT @ e + preserve_weight * p.mT @ p
    return identity + torch.linalg.solve(gram, erase_weight * (g - e).mT @ e, left=False)


def _refuse_own_goals(target: Cond, goal: Cond) -> None:
    for row, (key, becomes) in enumerate(zip(target.keys, goal.keys, strict=True)):
        if key == becomes or torch.equal(target.states[row], goal.states[row]):
            raise ExpungeError(f"a target prompt becomes another: {key!r} becomes {becomes!r}, nothing to map; choose another anchor")


def _apply(name: str, weight: Tensor, change: Eraser) -> Tensor:
    if weight.ndim == 1:
        return weight.detach().clone()  # A bias: equal on both sides of J's differences, so the minimum keeps it.
    if weight.ndim != 2 or weight.shape[1] != len(change):
        raise ExpungeError(
            f"UCE edits matrices that read token states: {name} is {list(weight.shape)}, the states are {len(change)} wide; "
            "give the model whose text encoder made the prompts"
        )
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.detach().to(wide) @ change.to(weight.device, wide)).to(weight.dtype)
