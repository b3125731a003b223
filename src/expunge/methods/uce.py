"""Unified concept editing (UCE), in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

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
    """Map the concept's keys and values to the anchor's, by one linear solve (UCE).

    Choose it for speed (seconds, no images, no gradients), for many concepts at once, or as a first try. It changes only how words are
    read. Prompts whose words have nearly the same meaning suffer first, and the network can still generate what no word names. The edit W'
    of each key and value matrix W is the minimum of

        J(W') = a sum_i || W' e_i - W g_i ||^2 + b sum_j || W' p_j - W p_j ||^2 + lam || W' - W ||^2

    with e_i, g_i, p_j the token states of the target, goal and retain prompts, and a, b, lam the three fields. The sums are over all tokens
    of all prompts, so a concept that more prompts contain weighs more.

    Source: arXiv 2308.14761, equation 7. The three fields and their defaults are the released code's, except for `preserve_weight`, which
    is 1 there; the smaller value forgets more on the canvas and damages no more. Ours: the same minimum is W' = W T with one T for all
    matrices (`eraser`), where the released code inverts a matrix of that size in each layer. Ours is also the pairing of states: those at
    the same position are paired, at every position, including padding. Cross-attention reads all states and sums over them, so if each
    becomes its partner, the output is that of the goal although words have moved. What a causal encoder gives before the concept is its own
    partner, and so is kept. The authors' first release pairs the last word and what follows it, and the current one the last word alone, so
    the same weights count more rows here. Every map where words enter is edited, each by what it reads (`entrance`): in SDXL the pooled
    embedding carries half of the concept.

    Raises:
        ExpungeError: a target prompt equals its goal, so the edit would change nothing; or the matrices read states of another width than
            the prompts have.
    """

    erase_weight: Annotated[float, Ge(0)] = 1.0
    """a: larger maps the concept to its goal more exactly and preserves less; 0 changes nothing."""
    preserve_weight: Annotated[float, Ge(0)] = 0.1
    """b: larger preserves the retain prompts more exactly and forgets less; 0 preserves only through `ridge` and ignores the retain
    prompts."""
    ridge: Annotated[float, Gt(0)] = 0.5
    """lam: pulls to the base model's weights in every direction, including those that no retain prompt spans. Larger changes less."""
    prompts: Literal["every", "bare"] = "every"
    """The concept's prompts to edit: `every`, each name with each partner and alone; `bare`, each name alone, as the released code has it.
    `bare` encodes far fewer prompts, which takes most of the time of an edit: choose it from a hundred concepts on. How the concept is read
    beside other words then depends on generalisation."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"anchor", "retain"}) if self.preserve_weight else frozenset({"anchor"})

    @property
    def scope(self) -> Scope:
        return SCOPES["entrance"]

    def __call__(self, weights: Mapping[str, Tensor], prompts: EditPrompts) -> dict[str, Tensor]:
        goal = prompts.goal.expand(len(prompts.target))
        _check_goals(prompts.target, goal)
        e, g = _pair(prompts.target, goal)
        change = eraser(e, g, prompts.retain.tokens, self.erase_weight, self.preserve_weight, self.ridge)
        return {name: _apply(name, weight, change) for name, weight in weights.items()}


def eraser(
    target: Tokens, goal: Tokens, retain: Float[Tensor, "others width"], erase_weight: float, preserve_weight: float, ridge: float
) -> Eraser:
    """The matrix T that gives UCE's edit W T of each W.

    With E, G, P the rows of target, goal and retain states,

        T = (lam I + a G^T E + b P^T P) (lam I + a E^T E + b P^T P)^-1 = I + a (G - E)^T E (lam I + a E^T E + b P^T P)^-1

    in float64 on the CPU, by a linear solve. W does not appear in the formula because the goal W g_i is linear in W. This is ours, as are
    its corollaries. T depends only on the text encoder and the prompts, so it fits every checkpoint with that encoder. W T c = W (T c), so
    multiplying the prompts' states by T (rows: `states @ T.mT`) is the same edit without a change of weights. An edit by T1 followed by one
    by T2 is the edit by T1 T2.

    Raises:
        ExpungeError: `ridge` is not positive, so the minimum may not be unique.
    """
    if not ridge > 0:
        raise ExpungeError(
            f"The ridge is {ridge}, but it must be positive.",
            rule="ridge-not-positive",
            value=ridge,
            hint="Try a small value such as 1e-6 for the largest edit.",
        )
    e, g, p = (rows.detach().to("cpu", torch.float64) for rows in (target, goal, retain))
    identity = torch.eye(e.shape[1], dtype=torch.float64)
    gram = ridge * identity + erase_weight * e.mT @ e + preserve_weight * p.mT @ p
    return identity + torch.linalg.solve(gram, erase_weight * (g - e).mT @ e, left=False)


def _pair(target: Cond, goal: Cond) -> tuple[Tokens, Tokens]:
    """The states of each target prompt, and for each of them the goal's at the same position. Where padding is masked, it is left out, and
    positions after the end of a shorter goal have its last state."""
    if "mask" not in target.extra:
        return target.states.flatten(0, 1), goal.states.flatten(0, 1)
    counts = [[int(n) for n in cond.extra["mask"].sum(1)] for cond in (target, goal)]
    e = [row[:n] for row, n in zip(target.states, counts[0], strict=True)]
    g = [row[torch.arange(n).clamp(max=last - 1)] for row, n, last in zip(goal.states, *counts, strict=True)]
    return torch.cat(e), torch.cat(g)


def _check_goals(target: Cond, goal: Cond) -> None:
    """Raise an error if a target prompt equals its goal."""
    for row, (key, becomes) in enumerate(zip(target.keys, goal.keys, strict=True)):
        if key == becomes or torch.equal(target.states[row], goal.states[row]):
            raise ExpungeError(
                f"The target prompt {key!r} and its goal {becomes!r} are the same, so there is nothing to edit.",
                rule="goal-is-target",
                value=key,
                hint="Try another anchor.",
            )


def _apply(name: str, weight: Tensor, change: Eraser) -> Tensor:
    if weight.ndim == 1:
        return weight.detach().clone()  # a bias cancels in the differences of J, so the minimum keeps it
    if weight.ndim != 2 or weight.shape[1] != len(change):
        raise ExpungeError(
            f"The shape of {name} is {list(weight.shape)}, but the token states that it should read are {len(change)} wide.",
            rule="wrong-state-width",
            value=list(weight.shape),
            hint="Try the model whose text encoder encoded the prompts.",
        )
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.detach().to(wide) @ change.to(weight.device, wide)).to(weight.dtype)
