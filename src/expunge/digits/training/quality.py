"""Measures a model of labelled images and its judge, with images that neither was trained on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.digits.pictures import Parts, Pictures
from expunge.evaluation.judges import judge_images, load_judge
from expunge.evaluation.metrics._frechet import fid
from expunge.evaluation.statistics import wilson
from expunge.models.loading import load
from expunge.models.sampling import Sampler

EACH = 50
"""Sampled images of each class."""
BATCH = 100


def measure_quality(pipeline: Path, judge: Path, parts: Parts, sampler: Sampler, device: str = "cpu") -> dict[str, Any]:
    """The judge's accuracy on images that it was not trained on, and its accuracy on samples of the model, each with n and a 95 % Wilson
    interval; the Fréchet distances of both to the reference."""
    model, told = load(pipeline, device), load_judge(str(judge), device)
    names = parts.model.names
    concept = Concept.find(f"label:{names[0]}", model.defaults.vocabulary())
    wanted = [name for name in names for _ in range(EACH)]
    prompts, seeds = [f"label:{name}" for name in wanted], list(range(len(wanted)))
    chunks = (slice(start, start + BATCH) for start in range(0, len(wanted), BATCH))
    sampled = torch.cat([model.sample(prompts[part], seeds[part], sampler) for part in chunks])

    def judged(images: Tensor, truth: list[str]) -> tuple[dict[str, Any], Tensor]:
        verdict = judge_images(told, images, concept)
        hits = sum(seen == name for seen, name in zip(verdict.seen[concept.kind], truth, strict=True))
        interval = wilson(hits, len(truth))
        assert verdict.features is not None
        row = {"share": hits / len(truth), "ci_low": interval.low, "ci_high": interval.high, "n": len(truth)}
        return row, verdict.features

    reference, far = judged(*_shown(parts.reference))
    real, near = judged(*_shown(parts.model))
    samples, ours = judged(sampled, wanted)
    return {
        "sampler": {"steps": sampler.steps, "guidance_scale": sampler.guidance_scale},
        "images": {"judge": len(parts.judge), "model": len(parts.model), "reference": len(parts.reference)},
        "judge on the reference": reference,
        "judge on the model's own images": real | {"FID to the reference": fid(near, far)},
        "samples": samples | {"FID to the reference": fid(ours, far)},
    }


def _shown(pictures: Pictures) -> tuple[Tensor, list[str]]:
    """Images in three channels, and the names of their classes."""
    return pictures.images.expand(-1, 3, -1, -1), [pictures.names[number] for number in pictures.labels.tolist()]
