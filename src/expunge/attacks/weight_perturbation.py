"""Attacks that need no data: coarser, fewer or noisier weights, under which a thinly hidden concept may show through."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim, plain
from expunge.errors import ExpungeError
from expunge.storage.hashing import seed_of

WHOLE = 16
"""Bits of a weight as models are published."""


class WeightSpace(Attack):
    """Changes every matrix and convolution of the attacked network, and not only those that unlearning changed."""

    threat: ClassVar[str] = "the weights, and no data"

    def __post_init__(self) -> None:
        if len(self.strengths) < 2 or any(a >= b for a, b in pairwise(self.strengths)):
            given = ", ".join(f"{s:g}" for s in self.strengths[1:]) or "none"
            raise ExpungeError(f"readings rise in strength, from above 0: those given are {given} {self.unit}; put them in order")

    def cost(self, victim: Victim) -> tuple[int, int]:
        return 0, 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield plain(victim, 0.0, {})
        for strength in self.strengths[1:]:
            present = {name: victim.delta.get(name, p.detach()) for name, p in victim.model.network.named_parameters() if p.ndim > 1}
            matrices = {name: w.to("cpu", torch.float32) for name, w in present.items()}
            yield plain(victim, strength, self.changed(matrices, strength, victim.seed))

    @abstractmethod
    def changed(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        """The new values of all `matrices`."""


@dataclass(frozen=True)
class Quantise(WeightSpace):
    """Round every weight to one of few values, as a model is made small to be passed on.

        w -> s round(w / s),  s = max |w| / (2^(bits - 1) - 1), for each output channel

    Choose it because people do it anyway, without a thought of what was removed: a change smaller than half a step is rounded away.
    It acts on the matrices and convolutions; biases and norms stay whole, as is the custom. A larger strength is a coarser grid.

    Source: arXiv 2410.16454 for the attack, on language models and by round-to-nearest too. Ours is a grid for each output channel.
    """

    bits: tuple[Annotated[int, Ge(2), Le(15)], ...] = (8, 4, 3)
    """Of each weight, in falling order: a reading for each. Fewer round more away, of what was unlearned and of everything else."""

    unit: ClassVar[str] = "bits removed"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *(float(WHOLE - b) for b in self.bits))

    def changed(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        return {name: rounded(w, WHOLE - int(strength)) for name, w in matrices.items()}


def rounded(w: Float[Tensor, "out ..."], bits: int) -> Float[Tensor, "out ..."]:
    """The nearest values on a grid for each row of the first axis, symmetric about zero, whose ends are the row's largest."""
    most = 2 ** (bits - 1) - 1
    step = w.abs().amax(tuple(range(1, w.ndim)), keepdim=True) / most
    return (w / step.where(step > 0, 1)).round().clamp(-most, most) * step


@dataclass(frozen=True)
class Prune(WeightSpace):
    """Set the smallest weights to zero, by one threshold for the whole network.

    Choose it for the same reason: models are made small this way, and what unlearning added may be among the smallest. It acts on
    the matrices and convolutions; biases and norms stay. A larger strength is a larger share of zeros.

    Source: arXiv 1506.02626 for pruning by magnitude. Pruning undoes what was trained into language models last in arXiv 2402.05162,
    where the weights are singled out for it; doing so blindly is ours.
    """

    shares: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.1, 0.2, 0.3, 0.5)
    """Of all weights that are set to zero, in rising order: a reading for each. Larger takes more away, of everything."""

    unit: ClassVar[str] = "of the weights set to zero"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *self.shares)

    def changed(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        sizes = torch.cat([w.abs().flatten() for w in matrices.values()])
        least = sizes.kthvalue(max(1, round(strength * len(sizes)))).values
        return {name: w * (w.abs() > least) for name, w in matrices.items()}


@dataclass(frozen=True)
class Noise(WeightSpace):
    """Add Gaussian noise to every weight, in proportion to the root mean square of its tensor.

        w -> w + level rms(w) n,  n ~ N(0, 1)

    Choose it as the plainest of probes: what was learned in long training sits in a wide minimum and bears noise, what hides it may
    not. It acts on the matrices and convolutions; biases and norms stay. The noise is drawn once, so a larger strength goes further
    in the same direction.

    Source: arXiv 2412.01784, where language models that hide an ability show it again under noise in their weights. Scaling it by
    each tensor's root mean square is ours.
    """

    levels: tuple[Annotated[float, Gt(0)], ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Sizes of the noise, in rising order: a reading for each. Larger drowns more, of what was unlearned and of everything else."""

    unit: ClassVar[str] = "of each tensor's rms"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *self.levels)

    def changed(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        return {
            name: w + strength * w.square().mean().sqrt() * torch.randn(w.shape, generator=_generator(seed, name))
            for name, w in matrices.items()
        }


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of("weight noise", seed, name))
