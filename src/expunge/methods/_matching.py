"""Methods that match the student's predictions to a goal, by a divergence.

A reverse step of the student and one of the goal are Gaussians with the same covariance. A divergence between them is a function of the
squared difference m_i of the two predictions, its mean over the numbers of the latent, for each point of a batch:

    L = mean_i lam_i w(M_i) m_i,    M_i = kappa lam_i m_i,    w = D_f' / D_f'(0), constant to the gradient

The gradient is that of mean_i D_f(M_i), up to a constant factor. For KL, w is 1 and L is the mean squared error. The weight depends on each
point's own M_i, so points with a large difference are damped or amplified individually, which a mean over the batch would hide.

Source: the idea is that of arXiv 2509.21167, which leaves the scale kappa open; its released code has kappa = C, the latent's channels. The
calibration of kappa, the form by weights and the choice of lam are ours. With kappa = 8, squared Hellinger has the weight e^{-m} of the
paper's gradient; with kappa = 1, chi^2 has e^m. Both are 1 to many digits for m of 0.001 to 0.01, by which predictions differ.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from expunge.config import NamesCode
from expunge.diffusion.batch import Batch, Terms
from expunge.diffusion.divergence import find_divergence
from expunge.diffusion.losses import denoising_error, squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Latents, Noised, Point, Times, together
from expunge.errors import ExpungeError
from expunge.methods.base import Objective

CAP = 0.0131
"""The upper bound of lam_t: its value at t = 100 of Stable Diffusion's 1000 steps. Below that it grows without bound."""


class Preservation(NamedTuple):
    """A weighted error that keeps the student's prediction at a point near the base model's, or, with `denoise`, near the true noise."""

    weight: float
    point: Point
    denoise: bool = False


@dataclass(frozen=True, kw_only=True)
class Matching(Objective):
    """A method whose student learns to predict a goal.

    Subclasses define the goal in `goal` and use `match` or `match_and_preserve` for the loss.
    """

    divergence: Annotated[str, NamesCode()] = "kl"
    """The divergence between the student's prediction and its goal. `kl` is the squared error, and so are `reverse-kl`, `jeffreys` and
    `renyi=NUMBER`. `hellinger`, `js` (which damps a little more) and `tv` damp points with a large difference, and so damage less where the
    goal cannot be reached. `chi2` and `alpha=NUMBER` above 1 or below 0 amplify these points and forget more; `alpha=NUMBER` between 0 and
    1 damps them. `package.module:function` is your own convex f(r) with f(1) = 0. See docs/explanation/divergences.md."""
    kappa: Annotated[float, Gt(0)] | Literal["auto", "exact"] = "auto"
    """Scale of the squared difference inside the divergence, M = kappa m; it has no effect on `kl`. `auto` sets it on the first batch, so
    that the median M there is `start`. `exact` is the scale of DDPM's reverse steps (with `time_weight` path; otherwise of the largest of
    them). 4 is the released code's scale, for latents of four channels. Larger departs more from the squared error: with a damping
    divergence, points with M above 8 have almost no gradient."""
    start: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    """The median M of the first batch with `kappa` auto. `auto` is 2 for divergences that damp and 0.5 for those that amplify."""
    time_weight: Literal["flat", "path"] = "flat"
    """The weight of a timestep. `flat`: all timesteps count equally in what the network predicts, as in its training loss. `path`: by
    lam_t, as in the divergence of whole sampling paths. For a network that predicts noise, that is constant within a factor of 2 from t =
    100 on, where it is capped."""

    def __post_init__(self) -> None:
        find_divergence(self.divergence)
        if self.start != "auto" != self.kappa:
            raise ExpungeError(
                f"`start` calibrates kappa, but kappa is {self.kappa} and start is {self.start}.",
                rule="start-with-kappa",
                value=self.start,
                hint="Try only one of kappa and start.",
            )

    @abstractmethod
    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        """The points at which the student predicts, and its goal there, without gradient."""

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        """The notes of `match`: kappa; for the card also the initial mean weight."""
        divergence = find_divergence(self.divergence)
        if divergence.flat:
            return {}
        point, goal = self.goal(models, batches(0))
        with torch.no_grad():  # the student at its start, which in a later stage is not the base model
            m = self._differences(models, point, goal, models.student(point))
        match self.kappa:
            case "auto":
                median, start = m.median(), divergence.start if self.start == "auto" else self.start
                # If student and goal agree, m is 0 and so is M for every kappa.
                kappa = torch.where(median > 0, start / median, 1.0)
            case "exact":
                kappa = torch.tensor(CAP * goal[0].numel())
            case number:
                kappa = torch.tensor(float(number))
        return {"kappa": kappa, "mean_weight": divergence.weight(kappa.to(m) * m).mean()}

    def match(self, models: Models, point: Point, goal: Latents, prediction: Latents | None = None) -> Float[Tensor, ""]:
        """The loss between the student's prediction at `point` and `goal`. `prediction` is the student's, if it is known already."""
        prediction = models.student(point) if prediction is None else prediction
        divergence = find_divergence(self.divergence)
        m = self._differences(models, point, goal, prediction)
        if not divergence.flat:
            m = divergence.weight(models.notes["kappa"] * m.detach()) * m
        return m.mean()

    def _differences(self, models: Models, point: Point, goal: Latents, prediction: Latents) -> Float[Tensor, " b"]:
        """lam_i m_i."""
        m = squared_error(prediction, goal)
        return m if self.time_weight == "flat" else path_weight(models.path, point.t).to(m) * m

    def match_and_preserve(self, models: Models, point: Point, goal: Latents, preserved: Mapping[str, Preservation]) -> Terms:
        """The loss of `match` as the term `forget`, and the terms of `preserved` by name. Terms with weight 0 are left out.

        All predictions come from one call of the network.
        """
        active = {name: term for name, term in preserved.items() if term.weight}
        prediction, *others = together(models.student, point, *(term.point for term in active.values()))
        terms = {"forget": self.match(models, point, goal, prediction)}
        for (name, term), other in zip(active.items(), others, strict=True):
            if term.denoise:
                assert isinstance(term.point, Noised)
                error = denoising_error(models, term.point, other).mean()
            else:
                error = squared_error(other, models.reference(term.point)).mean()
            terms[name] = term.weight * error
        return terms


def path_weight(path: NoisePath, t: Times) -> Float[Tensor, " b"]:
    """The weight of a squared difference of predictions at each time in the divergence of whole sampling paths.

    It is lam_t / CAP (see `NoisePath.lam`), at most 1, times the square of what a difference of predictions is as one of noise.
    """
    return path.lam(t, CAP) / CAP * path.eps_scale(t) ** 2
