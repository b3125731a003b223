"""Weight perturbations: quantisation, pruning and noise, which need no data and may undo small changes."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim, make_reading, refuse_unordered
from expunge.storage.hashing import seed_of

PUBLISHED_BITS = 16
"""Bits of a weight in published models."""


class WeightPerturbation(Attack):
    """Change every matrix and convolution of the attacked network, including those that unlearning did not change."""

    threat: ClassVar[str] = "the weights, and no data"

    def __post_init__(self) -> None:
        refuse_unordered(self)

    def cost(self, victim: Victim) -> tuple[int, int]:
        return 0, 0

    def __call__(self, victim: Victim) -> Iterator[Attacked]:
        yield make_reading(victim, 0.0, {})
        for strength in self.strengths[1:]:
            present = {name: victim.delta.get(name, p.detach()) for name, p in victim.model.network.named_parameters() if p.ndim > 1}
            matrices = {name: w.to("cpu", torch.float32) for name, w in present.items()}
            yield make_reading(victim, strength, self.perturb(matrices, strength, victim.seed))

    @abstractmethod
    def perturb(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        """The new values of all `matrices` at a strength."""


@dataclass(frozen=True)
class Quantise(WeightPerturbation):
    """Round every weight to a grid of few values (quantisation).

        w -> s round(w / s),  s = max |w| / (2^(bits - 1) - 1), for each output channel

    Choose it because users quantise models anyway, to make them smaller: a change by less than half a step is rounded away. It acts on the
    matrices and convolutions; biases and norms keep full precision, as is usual. A larger strength is a coarser grid.

    Source: arXiv 2410.16454 for the attack, on language models, also by rounding to nearest. Ours is one grid for each output channel.
    """

    bits: tuple[Annotated[int, Ge(2), Le(15)], ...] = (8, 4, 3)
    """Bits of each weight, in decreasing order, with a reading for each. Fewer undo more of unlearning, and damage everything else more."""

    unit: ClassVar[str] = "bits removed"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *(float(PUBLISHED_BITS - b) for b in self.bits))

    def perturb(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        return {name: round_to_grid(w, PUBLISHED_BITS - int(strength)) for name, w in matrices.items()}


def round_to_grid(w: Float[Tensor, "out ..."], bits: int) -> Float[Tensor, "out ..."]:
    """Round to the nearest value of a grid for each output channel, symmetric about 0, from minus to plus the channel's largest
    magnitude."""
    most = 2 ** (bits - 1) - 1
    step = w.abs().amax(tuple(range(1, w.ndim)), keepdim=True) / most
    return (w / step.where(step > 0, 1)).round().clamp(-most, most) * step


@dataclass(frozen=True)
class Prune(WeightPerturbation):
    """Set the smallest weights of the network to zero (magnitude pruning).

    One threshold applies to the whole network. Choose it because users prune models to make them smaller, and what unlearning added may be
    among the smallest weights. It acts on the matrices and convolutions; biases and norms do not change. A larger strength is a larger
    share of zeros.

    Source: arXiv 1506.02626 for pruning by magnitude. In arXiv 2402.05162, pruning undoes the last training of language models, with
    weights selected for this purpose. Pruning without such a selection is ours.
    """

    shares: tuple[Annotated[float, Gt(0), Lt(1)], ...] = (0.1, 0.2, 0.3, 0.5)
    """Shares of the weights to set to zero, in increasing order, with a reading for each. Larger removes more of everything."""

    unit: ClassVar[str] = "of the weights set to zero"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *self.shares)

    def perturb(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        sizes = torch.cat([w.abs().flatten() for w in matrices.values()])
        least = sizes.kthvalue(max(1, round(strength * len(sizes)))).values
        return {name: w * (w.abs() > least) for name, w in matrices.items()}


@dataclass(frozen=True)
class Noise(WeightPerturbation):
    """Add Gaussian noise to every weight, proportional to its tensor's root mean square.

        w -> w + level rms(w) n,  n ~ N(0, 1)

    Choose it as the simplest test. What was learned in long training lies in a wide minimum and tolerates noise; a small later change that
    hides it may not. It acts on the matrices and convolutions; biases and norms do not change. All strengths use the same noise, so a
    larger strength goes further in the same direction.

    Source: arXiv 2412.01784, in which language models that hide an ability show it again with noise in their weights. The scale by each
    tensor's root mean square is ours.
    """

    levels: tuple[Annotated[float, Gt(0)], ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    """Standard deviations of the noise relative to the root mean square, in increasing order, with a reading for each. Larger undoes more
    of unlearning, and damages everything else more."""

    unit: ClassVar[str] = "of each tensor's rms"

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, *self.levels)

    def perturb(self, matrices: Mapping[str, Tensor], strength: float, seed: int) -> dict[str, Tensor]:
        return {
            name: w + strength * w.square().mean().sqrt() * torch.randn(w.shape, generator=_generator(seed, name))
            for name, w in matrices.items()
        }


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of("weight noise", seed, name))
