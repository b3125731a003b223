"""Errors of predictions, in what the network predicts; with a point's goal the loss that a model was first trained with."""

from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Noised


def squared_error(prediction: Latents, goal: Latents) -> Float[Tensor, " b"]:
    """m_i: the mean squared difference of each point, in float32 whatever the network ran in."""
    return (prediction.float() - goal.float()).square().flatten(1).mean(1)


def denoising_error(models: Models, x: Noised, prediction: Latents | None = None) -> Float[Tensor, " b"]:
    """The denoising loss of each point: the mean squared error in what the network predicts.

    For a network that predicts noise it is || eps - eps_theta(x_t, t, c) ||^2 (arXiv 2006.11239, equation 14), for one that predicts v
    || v - v_theta ||^2 (arXiv 2202.00512). Many methods minimise it on the retain set, some maximise it on the concept, and attacks
    minimise it on the concept.

    Args:
        prediction: of the student at `x`, where it is known already.
    """
    return squared_error(models.student(x) if prediction is None else prediction, x.goal)
