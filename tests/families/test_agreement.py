"""Every family samples what diffusers' own pipeline samples from the same noise."""

import pytest
import torch

from expunge.models.sampling import Sampler
from families import FAMILIES

PROMPTS = ["a ring in neon style", "dots style"]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_those_of_diffusers(family: str, steps: int, guidance: float):
    """One step is one prediction; several are a whole sampling."""
    module = FAMILIES[family]
    model = module.model()
    guidance = 1.0 if model.guidance == "none" else guidance
    steps = max(steps, 2) if model.pipeline.scheduler.config.get("shift_terminal") else steps  # which divides by steps - 1
    noise = model.noise([1, 2])
    ours = model.sample_latents(model.encode(PROMPTS), [1, 2], Sampler(steps, guidance))
    theirs = module.sample(model.pipeline, PROMPTS, noise.clone(), steps, guidance, "latent")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    images = module.sample(model.pipeline, PROMPTS, noise.clone(), steps, guidance, "pt")
    torch.testing.assert_close(model.decode(ours).float() / 255, images, rtol=0, atol=0.5 / 255 + 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_prompt_is_another_prediction(family: str):
    """Or an agreement would show nothing of how prompts are read."""
    model = FAMILIES[family].model()
    one, other = (model.sample_latents(model.encode([prompt]), [1], Sampler(2, 1.0)) for prompt in PROMPTS)
    assert (one - other).abs().mean() > 1e-4
