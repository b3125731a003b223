"""Methods that draw the student's predictions to a goal, by the divergence of one's choice.

A reverse step of the student and one of the goal are Gaussians of the same covariance, so a divergence between them is a function
of the squared difference m_i of the two predictions, its mean over the latent's numbers, one for each point of a batch:

    L = mean_i lam_i w(M_i) m_i,    M_i = kappa lam_i m_i,    w = D_f' / D_f'(0), a constant to the gradient

whose gradient is that of mean_i D_f(M_i), up to a constant factor. For KL w is 1, and L is the mean squared error. As it is made
of each point's own M_i, points that lie far off are damped or amplified one by one, which the mean over a batch would hide.

Source: the idea is that of arXiv 2509.21167, which leaves the scale kappa open. Its calibration, the form by weights and the
choice of lam are ours. With kappa = 8 squared Hellinger has the weight e^{-m} that the paper's gradient shows, with kappa = 1
chi^2 has e^m; both are 1 to many digits for the m of 0.001 to 0.01 that predictions differ by.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.batch import Batch, Terms
from expunge.diffusion.divergence import find_divergence
from expunge.diffusion.losses import denoising_error, squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Latents, Noised, Point, Times, together
from expunge.errors import ExpungeError
from expunge.methods.base import Objective

CAP = 0.0131
"""The cap on lam_t, about its value at t = 100 of Stable Diffusion's 1000 steps, below which it explodes."""


class Hold(NamedTuple):
    """An error that keeps the student where it should stay while the concept goes: away from what the untouched model says there, or
    with `denoise` the loss that the model was trained with."""

    weight: float
    at: Point
    denoise: bool = False


@dataclass(frozen=True, kw_only=True)
class Matching(Objective):
    """A method whose student is to predict a goal. It says which in `goal`, and uses `match` for the loss."""

    divergence: str = "kl"
    """How the student's prediction is drawn to its goal. `kl` is the squared error, and so are `reverse-kl`, `jeffreys` and
    `renyi=NUMBER`; `hellinger`, `js` (which damps a little more) and `tv` let go of points that are far off, and so hurt less where
    the goal is out of reach; `chi2` and `alpha=NUMBER` above 1 or below 0 press on just these, and forget harder; `alpha=NUMBER`
    between 0 and 1 damps. Or any convex f(r) of yours with f(1) = 0, as `package.module:function`. See docs/divergences.md."""
    kappa: Annotated[float, Gt(0)] | Literal["auto", "exact"] = "auto"
    """Scale of the squared difference inside the divergence, M = kappa m; `kl` does not feel it. `auto` finds it on the first batch,
    so that the median M there is `start`; `exact` is that of DDPM's reverse steps (if `time_weight` is path, else of the largest of
    them). Larger departs more from the squared error: with a damping divergence points from M = 8 on hardly pull."""
    start: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    """With `kappa` auto, the median M of the first batch: `auto` is 2 for divergences that damp and 0.5 for those that amplify."""
    time_weight: Literal["flat", "path"] = "flat"
    """Whether all timesteps count alike in what the network predicts, as in its own loss, or by lam_t, as in the divergence of whole
    sampling paths: for a network that predicts noise within a factor of 2 the same from t = 100 on, where it is capped."""

    def __post_init__(self) -> None:
        find_divergence(self.divergence)
        if self.start != "auto" != self.kappa:
            raise ExpungeError(f"a start is what kappa is calibrated to: kappa is {self.kappa}, start {self.start}; give one of them")

    @abstractmethod
    def goal(self, models: Models, batch: Batch) -> tuple[Point, Latents]:
        """Where the student predicts, and what it is to predict there (without gradient)."""

    def prepare(self, models: Models, batches: Callable[[int], Batch]) -> dict[str, Tensor]:
        """The kappa that `match` reads; for the card also the mean weight at the start."""
        divergence = find_divergence(self.divergence)
        if divergence.flat:
            return {}
        point, goal = self.goal(models, batches(0))
        with torch.no_grad():  # the student where it begins, which in a later stage is not the untouched model
            m = self._differences(models, point, goal, models.student(point))
        match self.kappa:
            case "auto":
                median, start = m.median(), divergence.start if self.start == "auto" else self.start
                # Where student and goal agree already, there is nothing to scale by, and M is 0 whatever kappa is.
                kappa = torch.where(median > 0, start / median, 1.0)
            case "exact":
                kappa = torch.tensor(CAP * goal[0].numel())
            case number:
                kappa = torch.tensor(float(number))
        return {"kappa": kappa, "mean_weight": divergence.weight(kappa.to(m) * m).mean()}

    def match(self, models: Models, point: Point, goal: Latents, prediction: Latents | None = None) -> Float[Tensor, ""]:
        """The loss that draws the student at `point` to `goal`; its `prediction` there, where it is known already."""
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

    def match_and_hold(self, models: Models, point: Point, goal: Latents, held: Mapping[str, Hold]) -> Terms:
        """`match` as the term `forget`, and each of `held` by its name; what has no weight is left out.

        All predictions come from one call of the network.
        """
        weighed = {name: hold for name, hold in held.items() if hold.weight}
        prediction, *elsewhere = together(models.student, point, *(hold.at for hold in weighed.values()))
        terms = {"forget": self.match(models, point, goal, prediction)}
        for (name, hold), said in zip(weighed.items(), elsewhere, strict=True):
            if hold.denoise:
                assert isinstance(hold.at, Noised)
                error = denoising_error(models, hold.at, said).mean()
            else:
                error = squared_error(said, models.reference(hold.at)).mean()
            terms[name] = hold.weight * error
        return terms


def path_weight(path: NoisePath, t: Times) -> Float[Tensor, " b"]:
    """The weight of a squared difference of predictions at each time in the divergence of whole sampling paths.

    It is lam_t / CAP (see `NoisePath.lam`), at most 1, times the square of what a difference of predictions is as one of noise.
    """
    return path.lam(t, CAP) / CAP * path.eps_scale(t) ** 2
