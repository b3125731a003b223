"""Metrics that need no judge: the change of the weights, and the drift of the unconditional prediction."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from expunge.diffusion.types import Point
from expunge.evaluation.metrics import Score
from expunge.evaluation.results import Row
from expunge.evaluation.rows import make_row
from expunge.evaluation.statistics import mean_interval
from expunge.models.base import DiffusionModel
from expunge.models.delta import fitted
from expunge.models.finite import refuse_non_finite
from expunge.models.sampling import Sampler
from expunge.storage.hashing import seed_of
from expunge.training.renderer import Renderer
from expunge.training.session import Session

RENDER_BATCH = 32
"""Images that are sampled and noised at once, unless the session says otherwise."""


def weight_rows(session: Session, delta: Mapping[str, Tensor], card: Mapping[str, Any], concept: str, has_drift: bool = True) -> list[Row]:
    """The rows of weight_change and, unless it is left out because it samples images, null_drift. Those of the base model are 0 by
    definition."""
    scores = [Score("weight_change", "null", card["relative_change"], card["relative_change"], card["relative_change"], 1)]
    if has_drift:
        interval = mean_interval(drift := null_drift(session, delta))
        scores.append(Score("null_drift", "null", interval.value, interval.low, interval.high, len(drift)))
    zero = [Score(s.metric, s.probe, 0.0, 0.0, 0.0, s.n) for s in scores]
    return [make_row(s, card, "none", concept, of_base=True) for s in zero] + [make_row(s, card, "none", concept) for s in scores]


@torch.no_grad()
def null_drift(session: Session, delta: Mapping[str, Tensor], images: int = 32, per_image: int = 4) -> list[float]:
    """|| eps_theta(x_t, t, "") - eps_*(x_t, t, "") || / || eps_*(x_t, t, "") || for each of the base model's unprompted images.

    Guidance uses this prediction for every prompt, so its drift affects all images. The times are evenly spaced.

    Raises:
        ExpungeError: rule "not-finite".
    """
    model = session.model
    noises = torch.randn(per_image, images, *model.latent_shape, generator=torch.Generator().manual_seed(seed_of("null-noise")))
    seeds = [seed_of("null", i) for i in range(images)]
    weights = fitted(model.network, delta)
    parts = Renderer(session, RENDER_BATCH).parts(images, "images without a prompt")
    return torch.cat([_drifts(model, weights, seeds[part], noises[:, part], part, images) for part in parts]).tolist()


def _drifts(
    model: DiffusionModel, weights: Mapping[str, Tensor], seeds: list[int], noises: Float[Tensor, "k b *image"], part: slice, images: int
) -> Float[Tensor, " b"]:
    """The drift of the images at `part` of all `images`, averaged over the noises."""
    null, per_image = model.null(len(seeds)), len(noises)
    clean = model.sample_latents(null, seeds, Sampler(model.default_sampler.steps, 1.0))
    places = torch.arange(images)[part]
    drifts = []
    for k in range(per_image):
        t = model.path.times((places * per_image + k + 0.5) / (images * per_image)).to(clean.device)
        point = Point(model.path.add_noise(clean, noises[k].to(clean.device), t), t, null, ("",) * len(seeds))
        before, after = model.predict(point), model.predict(point, weights)
        refuse_non_finite(torch.cat([before, after]), "Predictions without a prompt")
        drifts.append(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).cpu())
    return torch.stack(drifts).mean(0)
