"""Errors of predictions, in what the network predicts; with the true noise as the goal the loss that a model was first trained with."""

from jaxtyping import Float
from torch import Tensor

from expunge.diffusion import schedule
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Noised, Times


def squared_error(prediction: Latents, goal: Latents) -> Float[Tensor, " b"]:
    """m_i: the mean squared difference of each point, in float32 whatever the network ran in."""
    return (prediction.float() - goal.float()).square().flatten(1).mean(1)


def prediction_error(models: Models, t: Times, said: Latents, goal: Latents) -> Float[Tensor, " b"]:
    """The squared error of each point in what the network predicts, a mean over its numbers; `said` and `goal` are given as noise.

    The one place that compares predictions, so that terms of a loss weigh against each other alike whatever a model predicts: an error
    in the noise is abar_t times that in v, which on Stable Diffusion's schedule is next to nothing where there is most noise.
    """
    return schedule.loss_weight(models.alphas_cumprod, t, models.predicts) * squared_error(said, goal)


def denoising_error(models: Models, x: Noised, said: Latents | None = None) -> Float[Tensor, " b"]:
    """The denoising loss of each point, a mean over its numbers: ||eps - eps_theta(x_t, t, c)||^2 (arXiv 2006.11239, equation 14), or of
    a model that predicts v, ||v - v_theta||^2 (arXiv 2202.00512), and of one that predicts x_0 likewise. Many methods descend it on
    what is retained, some climb it on the concept, and attacks descend it again.

    `said` is what was predicted there, as noise, where that is known already; else the student is asked.
    """
    said = models.student(x) if said is None else said
    return prediction_error(models, x.t, said, x.noise)
