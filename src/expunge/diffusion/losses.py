"""Errors of predictions, in what the network predicts; with a point's goal the loss that a model was first trained with."""

from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.networks import Models
from expunge.diffusion.types import Latents, Noised


def squared_error(prediction: Latents, goal: Latents) -> Float[Tensor, " b"]:
    """m_i: the mean squared difference of each point, in float32 whatever the network ran in."""
    return (prediction.float() - goal.float()).square().flatten(1).mean(1)


def denoising_error(models: Models, x: Noised, prediction: Latents | None = None) -> Float[Tensor, " b"]:
    """The denoising loss of each point, a mean over its numbers: || eps - eps_theta(x_t, t, c) ||^2 (arXiv 2006.11239, equation 14), or of
    a model that predicts v, || v - v_theta ||^2 (arXiv 2202.00512), and of one that predicts x_0 or a flow the same of these. Many methods
    descend it on the retain set, some climb it on the concept, and attacks descend it again.

    Args:
        prediction: of the student at `x`, where it is known already.
    """
    return squared_error(models.student(x) if prediction is None else prediction, x.goal)
