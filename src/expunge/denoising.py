"""The loss that a model was first trained with: what many methods descend on what is retained, some climb, and attacks descend again."""

from jaxtyping import Float
from torch import Tensor

from expunge import schedule
from expunge.types import Latents, Models, Noised


def squared_error(prediction: Latents, goal: Latents) -> Float[Tensor, " b"]:
    """m_i: the mean squared difference of each point, in float32 whatever the network ran in."""
    return (prediction.float() - goal.float()).square().flatten(1).mean(1)


def denoising_error(models: Models, x: Noised, said: Latents | None = None) -> Float[Tensor, " b"]:
    """The denoising loss of each point, a mean over its numbers: ||eps - eps_theta(x_t, t, c)||^2 (arXiv 2006.11239, equation 14), or of
    a model that predicts v, ||v - v_theta||^2 (arXiv 2202.00512), and of one that predicts x_0 likewise.

    `said` is what was predicted there, as noise, where that is known already; else the student is asked.
    """
    said = models.student(x) if said is None else said
    return schedule.loss_weight(models.alphas_cumprod, x.t, models.predicts) * squared_error(said, x.noise)
