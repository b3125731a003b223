"""MiM-PID: unlearning only the information that the concept does not share with its siblings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.decomposition import Maps, information, redrawn, shares, smoothed
from expunge.diffusion.losses import squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents
from expunge.methods.base import Objective, Training, Variant
from expunge.models.scopes import SCOPES, Scope


@dataclass(frozen=True)
class MiMPID(Objective):
    """Remove only information unique to the concept, keeping what siblings share (MiM-PID).

    The information of the concept at each place of the image is split into a part that a sibling shares and a unique part. Places with
    shared information have less weight (W), and their goal is the sibling instead of the context (rho). Choose it for concepts with close
    siblings, such as breeds or species. Where siblings differ from the context everywhere and from each other only in kind, as styles do,
    almost nothing is unique by this measure: then raise `floor`, or choose MiM-MU.

        i_k(u) = 1/2 sum_channels ( eps_*(x_t | y) - eps_*(x_t | y_k) )^2 (u),    r = min(i_1, i_2),    u_1 = i_1 - r
        W = floor + (1 - floor) u_1 / (u_1 + r + delta),    rho = r / (u_1 + r + delta)
        L = s || sqrt(W) ( eps_theta(x_t | y_1) - sg[ eps_*(x_t | y) + rho ( eps_*(x_t | y_2) - eps_*(x_t | y) ) ] ) ||^2
            + lock || eps_theta(x_t | y_2) - sg[ eps_*(x_t | y_2) ] ||^2

    with y the prompt without the concept, y_1 the forget prompt, y_2 the prompt with a sibling in place of the concept (without siblings,
    another member of its kind), and s the number that makes the mean of W equal to 1 on the first batch.

    Source: arXiv 2603.00992 names decomposing the information as future work, and arXiv 2406.05191 decomposes it. This method is ours.
    """

    floor: Annotated[float, Ge(0), Le(1)] = 0.25
    """The smallest weight of a place. Larger forgets more and preserves siblings less; 1 weighs all places equally."""
    rho: Annotated[float, Ge(0), Le(1)] | Literal["auto"] = "auto"
    """The share of the sibling in the goal: `auto` is the shared part of each place's information, 0 the context, 1 the sibling."""
    delta: Annotated[float, Ge(0)] = 0.1
    """Information below this share of a map's mean counts little. Larger leaves more of the image unchanged."""
    smooth: Annotated[int, Ge(0)] = 1
    """Radius of the squares over which maps are averaged, in latent pixels. Larger reduces noise and sharpness; 0 does not average."""
    draws: Annotated[int, Ge(1)] = 2
    """Noise samples over which maps are averaged. More reduce noise; each costs three reference forwards for each point."""
    lock: Annotated[float, Ge(0)] = 1.0
    """Weight of the last line. Larger preserves siblings better and forgets more slowly; 0 saves a forward and a backward pass."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Training fewer weights damages less and forgets less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "context", "sibling", "reference"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def decompose(self, models: Models, batch: Batch) -> tuple[Maps, Maps]:
        """The share of the concept's information at each place that is unique, and the share that its sibling shares."""
        own, other = [], []
        for draw in range(self.draws):
            x = redrawn(batch.forget, models.path, draw)
            without = models.reference(x.given(batch.context))
            own.append(information(without, models.reference(x)))
            other.append(information(without, models.reference(x.given(batch.sibling))))
        target, sibling = (smoothed(torch.stack(maps).mean(0), self.smooth) for maps in (own, other))
        return shares(target, sibling, self.delta)

    def _weight(self, unique: Maps) -> Maps:
        return self.floor + (1 - self.floor) * unique

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        """The scale s and, for the card, the mean shares of the concept's information."""
        unique, shared = self.decompose(models, batches(0))
        mean = self._weight(unique).mean()
        return {"scale": torch.where(mean > 0, 1 / mean, 1.0), "unique": unique.mean(), "shared": shared.mean()}

    def goal(self, models: Models, batch: Batch, shared: Maps) -> Latents:
        """The prediction that the student learns under the forget prompt, without gradient."""
        x = batch.forget
        without, sibling = models.reference(x.given(batch.context)), models.reference(x.given(batch.sibling))
        return without + (shared if self.rho == "auto" else self.rho) * (sibling - without)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, (unique, shared) = batch.forget, self.decompose(models, batch)
        root = self._weight(unique).sqrt()
        error = squared_error(root * models.student(x), root * self.goal(models, batch, shared))
        terms = {"forget": models.notes["scale"] * error.mean()}
        if self.lock:
            point = x.given(batch.sibling)
            terms["lock"] = self.lock * squared_error(models.student(point), models.reference(point)).mean()
        return terms
