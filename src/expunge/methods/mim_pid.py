"""MiM-PID: unlearning only the information that the concept shares with no sibling."""

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
    """Remove what a picture says of the concept alone, and keep what it says of the whole family.

        i_k(u) = 1/2 sum_channels ( eps_*(x_t | y) - eps_*(x_t | y_k) )^2 (u),    r = min(i_1, i_2),    u_1 = i_1 - r
        W = floor + (1 - floor) u_1 / (u_1 + r + delta),    rho = r / (u_1 + r + delta)
        L = s || sqrt(W) ( eps_theta(x_t | y_1) - sg[ eps_*(x_t | y) + rho ( eps_*(x_t | y_2) - eps_*(x_t | y) ) ] ) ||^2
            + lock || eps_theta(x_t | y_2) - sg[ eps_*(x_t | y_2) ] ||^2

    with y the prompt without the concept, y_1 the forget prompt, y_2 the same with a sibling in the concept's place (without
    siblings, any other of its kind), and s one number that makes W's mean 1 on the first batch. Choose it for concepts among near
    neighbours, breeds or species: places that a sibling draws too are pressed less (W), and are sent to the sibling instead of to
    nothing (rho). Where siblings differ from the context everywhere and from each other only in kind, as styles do, almost
    nothing is unique by this measure: then raise `floor`, or choose MiM-MU.

    Source: arXiv 2603.00992 names decomposing the information as future work, 2406.05191 decomposes it; all of this method is ours.
    """

    floor: Annotated[float, Ge(0), Le(1)] = 0.25
    """The least that a place counts. Larger forgets more and spares siblings less; 1 has no mask."""
    rho: Annotated[float, Ge(0), Le(1)] | Literal["auto"] = "auto"
    """How much of the goal is the sibling: `auto` is the shared part of each place's information, 0 the context, 1 the sibling."""
    delta: Annotated[float, Ge(0)] = 0.1
    """Part of a map's mean below which a place's information counts as little. Larger leaves more of the picture alone."""
    smooth: Annotated[int, Ge(0)] = 1
    """Radius of the squares that maps are averaged over, in latent pixels. Larger is less noisy and less sharp; 0 is none."""
    draws: Annotated[int, Ge(1)] = 2
    """Draws of noise that maps are averaged over. More is less noisy; each costs three reference forwards for each point."""
    lock: Annotated[float, Ge(0)] = 1.0
    """Weight of the last line. Larger spares siblings more and forgets more slowly; 0 is a forward and a backward cheaper."""
    variant: Variant = "xattn"
    """Which weights are trained (`expunge ls scopes`). Fewer hurt less and forget less."""

    training: ClassVar[Training] = Training(steps=120, lr=3e-4, batch_size=16)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "context", "sibling", "reference"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def decomposed(self, models: Models, batch: Batch) -> tuple[Maps, Maps]:
        """Of the concept's information at each place, what it alone gives and what its sibling gives too."""
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
        """The scale s; for the card also the mean shares of the concept's information."""
        unique, shared = self.decomposed(models, batches(0))
        mean = self._weight(unique).mean()
        return {"scale": torch.where(mean > 0, 1 / mean, 1.0), "unique": unique.mean(), "shared": shared.mean()}

    def goal(self, models: Models, batch: Batch, shared: Maps) -> Latents:
        x = batch.forget
        without, sibling = models.reference(x.given(batch.context)), models.reference(x.given(batch.sibling))
        return without + (shared if self.rho == "auto" else self.rho) * (sibling - without)

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x, (unique, shared) = batch.forget, self.decomposed(models, batch)
        root = self._weight(unique).sqrt()
        missed = squared_error(root * models.student(x), root * self.goal(models, batch, shared))
        terms = {"forget": models.notes["scale"] * missed.mean()}
        if self.lock:
            held = x.given(batch.sibling)
            terms["lock"] = self.lock * squared_error(models.student(held), models.reference(held)).mean()
        return terms
