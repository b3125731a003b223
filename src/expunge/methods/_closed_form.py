"""Maps of prompts to others by one linear solve: the minimum of UCE's J (arXiv 2308.14761, equation 7)."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.methods.base import EditPrompts

Tokens = Float[Tensor, "tokens width"]
Eraser = Float[Tensor, "width width"]
Pairing = Literal["position", "last-token", "from-last-token"]


def mapped(
    weights: Mapping[str, Tensor],
    prompts: EditPrompts,
    erase_weight: float,
    preserve_weight: float,
    ridge: float,
    pairing: Pairing = "position",
) -> dict[str, Tensor]:
    """The minimum of J, the objective in `UCE`'s docstring, for each weight.

    Raises:
        ExpungeError: as `UCE`.
    """
    goal = prompts.goal.expand(len(prompts.target))
    _check_goals(prompts.target, goal)
    e, g = _pair(prompts.target, goal) if pairing == "position" else _pair_tails(prompts, goal, pairing)
    kept = prompts.retain.tokens if pairing != "last-token" else _last(prompts.retain, prompts.tails)
    change = eraser(e, g, kept, erase_weight, preserve_weight, ridge)
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


def _pair_tails(prompts: EditPrompts, goal: Cond, pairing: Pairing) -> tuple[Tokens, Tokens]:
    """The state of each target prompt's last token and that of its goal's; with `from-last-token` also those that follow, until one of
    the two prompts ends."""
    places: list[tuple[int, int, int]] = []
    for row, (key, becomes) in enumerate(zip(prompts.target.keys, goal.keys, strict=True)):
        for old, new in zip(prompts.tails[key], prompts.tails[becomes], strict=True):
            both = list(zip(old, new, strict=False))
            places += [(row, *pair) for pair in (both[:1] if pairing == "last-token" else both)]
    rows, at, becomes_at = torch.tensor(places).unbind(1)
    return prompts.target.states[rows, at], goal.states[rows, becomes_at]


def _last(cond: Cond, tails: Mapping[str, tuple[range, ...]]) -> Float[Tensor, "others width"]:
    """The state of each prompt's last token."""
    places = [(row, tail.start) for row, key in enumerate(cond.keys) for tail in tails[key]]
    rows, at = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
    return cond.states[rows, at]


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
