"""Metrics that need no judge: the change of the weights, and the drift of the unconditional prediction."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expunge.diffusion.types import Point
from expunge.evaluation.metrics import Score
from expunge.evaluation.results import Row
from expunge.evaluation.rows import make_row
from expunge.evaluation.statistics import mean_interval
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler
from expunge.storage.hashing import seed_of


def weight_rows(model: DiffusionModel, delta: Mapping[str, Tensor], card: Mapping[str, Any], concept: str) -> list[Row]:
    """The rows of weight_change and null_drift. Those of the base model are 0 by definition."""
    drift = null_drift(model, delta)
    interval = mean_interval(drift)
    scores = [
        Score("weight_change", "null", card["relative_change"], card["relative_change"], card["relative_change"], 1),
        Score("null_drift", "null", interval.value, interval.low, interval.high, len(drift)),
    ]
    zero = [Score(s.metric, s.probe, 0.0, 0.0, 0.0, s.n) for s in scores]
    return [make_row(s, card, "none", concept, of_base=True) for s in zero] + [make_row(s, card, "none", concept) for s in scores]


@torch.no_grad()
def null_drift(model: DiffusionModel, delta: Mapping[str, Tensor], images: int = 32, per_image: int = 4) -> list[float]:
    """|| eps_theta(x_t, t, "") - eps_*(x_t, t, "") || / || eps_*(x_t, t, "") || for each of the base model's unprompted images.

    Guidance uses this prediction for every prompt, so its drift affects all images. The times are evenly spaced.
    """
    null, dtype = model.null(), next(model.network.parameters()).dtype
    sampler = Sampler(model.default_sampler.steps, 1.0)
    clean = model.sample_latents(null.expand(images), [seed_of("null", i) for i in range(images)], sampler)
    generator = torch.Generator().manual_seed(seed_of("null-noise"))
    drifts = []
    for k in range(per_image):
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        spread = (torch.arange(images) * per_image + k + 0.5) / (images * per_image)
        t = model.path.times(spread).to(clean.device)
        x_t = model.path.add_noise(clean, noise, t)
        point = Point(x_t, t, null.expand(images), ("",) * images)
        before, after = model.predict(point), model.predict(point, {n: v.to(clean.device, dtype) for n, v in delta.items()})
        drifts.append(((after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).cpu())
    return torch.stack(drifts).mean(0).tolist()
