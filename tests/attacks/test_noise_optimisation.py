"""The optimisation of initial noise: its gradient is that of the base model's information in the attacked model's image."""

from dataclasses import replace

import pytest
import tiny
import torch
from attacks.victims import victim
from diffusers import DDPMScheduler
from raising import raises_error

from expunge.attacks import NoiseOptimisation, noise_optimisation
from expunge.attacks.base import make_reading
from expunge.attacks.noise_optimisation import information, move
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler, Start


def test_information_is_what_the_first_prompt_explains_beyond_the_second():
    model = tiny.model()
    clean, seeds = model.noise([5, 6]), [1, 2]
    conds = model.encode(["a ring in neon style"] * 2), model.encode(["a ring"] * 2)
    found = information(model, clean, conds, seeds)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        t = (torch.rand(1, generator=generator) * 1000).floor()
        eps = torch.randn(1, *clean.shape[1:], generator=generator)
        x_t = DDPMScheduler.from_config(model.pipeline.scheduler.config).add_noise(clean[[i]], eps, t.long())
        said = [model.network(x_t, t, encoder_hidden_states=cond.states[[i]]).sample for cond in conds]
        errors = [(of - eps).square().mean() for of in said]
        torch.testing.assert_close(found[i], errors[1] - errors[0])


def test_a_step_turns_the_noise_and_keeps_its_length():
    z = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 1, 2, 2)
    along, across = torch.tensor([3.0, 4.0, 0.0, 0.0]).view_as(z), torch.tensor([0.0, 0.0, 2.0, 0.0]).view_as(z)
    torch.testing.assert_close(move(z, 7 * along, 0.5), z)
    # u = (3, 4, 0.5 * 5, 0), of length 5 sqrt(1 + 0.25)
    torch.testing.assert_close(move(z, along + across, 0.5), torch.tensor([3.0, 4.0, 2.5, 0.0]).view_as(z) / 1.25**0.5)
    torch.testing.assert_close(move(z, torch.zeros_like(z), 0.5), z)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_gradient_goes_through_the_attacked_models_sampler(guidance, tmp_path, monkeypatch):
    attacked, attack = victim(tmp_path, sampler=Sampler(9, guidance)), NoiseOptimisation(sampler_steps=2, points=1)
    model, plain = attacked.model, make_reading(attacked, 0.0, {})
    contexts = {p.prompt: p.context for p in attacked.concept.forget()}
    context, z = model.encode([contexts[prompt] for prompt in plain.cond.keys]), model.noise(list(plain.noise_seeds))
    seen: list[list[int]] = []

    def value(noise: torch.Tensor) -> torch.Tensor:
        with swapped(model.network, attacked.delta), torch.no_grad():
            clean = model.sample_latents(plain.cond, list(plain.noise_seeds), Sampler(2, guidance), Start(noise=noise))
        return information(model, clean, (plain.cond, context), seen[0]).sum().double()

    def watched(model, clean, conds, seeds):
        seen.append(seeds)
        return information(model, clean, conds, seeds)

    monkeypatch.setattr(noise_optimisation, "information", watched)
    gradient = attack._differentiate(attacked, z, (plain.cond, context), list(plain.noise_seeds), 0)
    along = gradient / gradient.norm()
    rise = (value(z + 1e-2 * along) - value(z - 1e-2 * along)) / 2e-2
    torch.testing.assert_close(rise.float(), gradient.norm(), rtol=0.05, atol=0)


def test_the_information_rises_from_step_to_step(tmp_path):
    attacked, attack = victim(tmp_path), NoiseOptimisation(steps=(2, 6), sampler_steps=1, points=2)
    model = attacked.model
    contexts = {p.prompt: p.context for p in attacked.concept.forget()}

    def mean(reading) -> float:
        context = model.encode([contexts[prompt] for prompt in reading.cond.keys])
        with swapped(model.network, attacked.delta):
            clean = model.sample_latents(reading.cond, list(reading.noise_seeds), Sampler(1, 2.0), reading.start)
        with torch.no_grad():
            found = [information(model, clean, (reading.cond, context), [2 * k, 2 * k + 1]) for k in range(12)]
        return torch.cat(found).mean().item()

    first, *later = (mean(reading) for reading in attack(attacked))
    assert first < later[0] < later[1]


def test_the_number_of_images_at_once_changes_nothing(tmp_path):
    settings = {"steps": (2,), "sampler_steps": 2, "points": 1}
    one, two = ([*NoiseOptimisation(**settings, batch_size=size)(victim(tmp_path))][-1].start.noise for size in (1, 2))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_every_victim_starts_from_the_same_noise(tmp_path):
    attacked = victim(tmp_path)
    ends = [[*NoiseOptimisation(steps=(1,), sampler_steps=1)(of)][-1].start.noise for of in (attacked, replace(attacked, delta={}))]
    plain = attacked.model.noise(attacked.noise_seeds)
    for end in ends:
        torch.testing.assert_close(end.flatten(1).norm(dim=1), plain.flatten(1).norm(dim=1))
        assert torch.nn.functional.cosine_similarity(end.flatten(1), plain.flatten(1)).min() > 0.99


def test_a_gradient_that_is_not_finite_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(noise_optimisation, "information", lambda model, clean, conds, seeds: (clean * torch.inf).flatten(1).sum(1))
    with raises_error("non-finite-gradient", hint="--sampler-steps"):
        list(NoiseOptimisation(steps=(1,), sampler_steps=1)(victim(tmp_path)))
