"""The noise from which deterministic sampling leads to a given image."""

import torch

from expunge.diffusion.types import Cond, Latents, Point, Times
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler


@torch.no_grad()
def invert(model: DiffusionModel, cond: Cond, clean: Latents, sampler: Sampler, calls: int) -> Latents:
    """Initial noise of images: DDIM's steps from the image to the noise, at the times of the sampler, without guidance.

    A step from time s to a noisier t is

        x_t = signal_t x_0 + sigma_t eps,    x_0 and eps as the prediction says

    DDIM takes the prediction at (x_s, s). The step of sampling that it is to undo takes the one at (x_t, t), which is not known yet, so the
    errors add up. Each further call takes the prediction at the x_t that the one before found, and so the fixed point, if there is one, is
    undone exactly by a sampler of first order.

    Source: arXiv 2010.02502, section 4.3, for the inversion; arXiv 2309.04907 (accelerated iterative inversion) for the fixed point. Ours
    is that noise path and prediction may be any.

    Args:
        cond: a condition for each image.
        clean: the images' latents.
        sampler: whose times are taken; its guidance is not.
        calls: calls of the network for each step, at least 1. More undo the sampler more exactly, where they converge.

    Returns:
        Latents in the scale of `DiffusionModel.noise`.
    """
    x, now = clean.to(model.device), None
    for t in sorted({float(t) for t in model.scheduler_for(sampler).timesteps}):
        later = torch.full((len(x),), t, device=x.device)
        place, at = x, later if now is None else now  # the image has no time; the nearest one that the network knows is the first
        for _ in range(calls):
            prediction = model.predict(Point(place, at, cond, ("",) * len(x)))
            place, at = _moved(model, model.path.eps(prediction, place, at), x, now, later), later
        x, now = place, later
    return x


def _moved(model: DiffusionModel, eps: Latents, x: Latents, now: Times | None, later: Times) -> Latents:
    """x moved from `now`, or from the image, to `later` along the noise eps.

    From x = signal x_0 + sigma eps with that eps, x_0 = (x - sigma eps) / signal, so that sampling from the result gives x again.
    """
    if now is None:
        return model.path.add_noise(x, eps, later)
    signal, sigma = model.path.coefficients(now, x)
    return model.path.add_noise((x - sigma * eps) / signal, eps, later)
