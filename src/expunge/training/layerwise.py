"""Whitened steps in every linear layer and convolution.

A layer multiplies its weight W by a row a for each token or pixel; a convolution has a W for each place of its kernel. A gradient step on W
is a sum of outer products with such rows, and it changes most what all rows have in common. With A = E[a a^T] over the rows that the base
model reads on points that must survive, let

    U = s (A + ridge mean-eigenvalue(A) I)^(-1/2),      s such that tr(U A U) = tr(A)

and let Adam step on D in W = W_0 + D U. A step of gradient descent in D is the gradient times U^2, which is A^(-1) up to scale and ridge:
it takes the direction that reduces the loss most for a given change of the layer's output on what must survive. Directions that no such row
has are as free as the ridge allows. Towards a ridge of 0 steps lie in these directions alone, which is the projection of PGU.

Source: ours in this use. The input side of K-FAC (arXiv 1503.05671). For convolutions KFC (arXiv 1602.01407) takes the covariance of all
pixels under the kernel; ours is that of one pixel's channels, which is far smaller. The projection off the retained activations' leading
subspace is that of PGU (arXiv 2604.21041).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expunge.diffusion.types import Point
from expunge.models.base import DiffusionModel
from expunge.training.preconditioner import Whitening, whitener_of

CALLED = 256
"""The largest number of points on which A is estimated."""

AT_ONCE = 32
"""Points of one call of the network."""

ROWS = 1024
"""The largest number of rows of a layer that count for one call."""


def layer_whitening(model: DiffusionModel, points: Point, trained: Collection[str], ridge: float) -> Whitening:
    """Whitening of every trained weight of a linear layer or a convolution, for what the base model reads at `points`.

    Weights of other layers, of convolutions in groups, and of layers that the network does not call step on themselves.

    Args:
        points: on what must survive; at most `CALLED` of them are read, spread evenly.
        trained: names of the trained tensors; a low-rank factor NAME.A counts as NAME.
        ridge: share of the mean eigenvalue that each direction is given; see `Training.whiten`.
    """
    with torch.no_grad():
        found = second_moments(model, points, {name.removesuffix(".A").removesuffix(".weight") for name in trained})
    # Each covariance is let go before the next whitener is made: together they are as large as these.
    return Whitening({f"{name}.weight": whitener_of(found.pop(name), ridge).to(model.device) for name in list(found)})


def second_moments(model: DiffusionModel, points: Point, layers: Collection[str]) -> dict[str, Float[Tensor, "width width"]]:
    """E[a a^T] of the rows that each of the named layers reads, by the layer's name."""
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, tuple[Tensor, int]] = {}

    def see(name: str, layer: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        a = rows(layer, next(iter((*arguments, *named.values()))).detach())
        if len(a) > ROWS:  # at random: rows at equal distances would be of the same few columns of an image
            a = a[torch.randperm(len(a), generator=generator)[:ROWS].to(a.device)]
        a, (before, count) = a.float(), sums.get(name, (0.0, 0))
        sums[name] = before + a.T @ a, count + len(a)

    with ExitStack() as hooks:
        for name, layer in model.network.named_modules():
            if name in layers and reads_rows(layer):
                hooks.callback(layer.register_forward_pre_hook(partial(see, name), with_kwargs=True).remove)
        for part in _parts(points):
            model.predict(Point(part.x_t.to(model.device), part.t.to(model.device), part.cond.to(model.device), part.keys))
    return {name: total / count for name, (total, count) in sums.items()}


def calls(points: int) -> int:
    """How many evaluations of the network `layer_whitening` makes of that many points."""
    return len(range(0, points, -(-points // CALLED)))


def reads_rows(layer: nn.Module) -> bool:
    """Whether a layer multiplies one matrix by every row of its input."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1
    return isinstance(layer, nn.Linear)


def rows(layer: nn.Module, x: Tensor) -> Float[Tensor, "n width"]:
    """What a layer multiplies its weight by when it reads `x`: for a linear layer the vectors along the last axis, for a convolution the
    channels of each pixel."""
    return (x.movedim(1, -1) if isinstance(layer, nn.Conv2d) else x).flatten(0, -2)


def _parts(points: Point) -> Iterator[Point]:
    """At most `CALLED` of the points, spread evenly, in parts."""
    chosen = list(range(0, len(points), -(-len(points) // CALLED)))
    return (points[chosen[i : i + AT_ONCE]] for i in range(0, len(chosen), AT_ONCE))
