"""Attacks that give the model an image of the concept: against diffusers, against the sampler that they undo, and what they refuse."""

from dataclasses import replace

import pytest
import tiny
import torch
from attacks.victims import victim
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from families import stable_diffusion_3
from raising import raises_error

from expunge.attacks import DDIMInversion, Img2Img, Inpainting
from expunge.concepts.concept import Concept
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.inversion import invert
from expunge.models.sampling import Sampler, Start

SAMPLER = Sampler(4, 3.0)


def clean_of(model: DiffusionModel, count: int = 2) -> torch.Tensor:
    return torch.randn(count, *model.latent_shape, generator=torch.Generator().manual_seed(5))


def ddim() -> DiffusionModel:
    model = tiny.model()
    model.pipeline.scheduler = DDIMScheduler.from_config(model.pipeline.scheduler.config, clip_sample=False)  # as Stable Diffusion has it
    return model


# --- where sampling begins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skipped", [0.25, 0.5])
@pytest.mark.parametrize("make", [tiny.model, ddim])
def test_image_to_image_is_that_of_the_diffusers_pipeline(make, skipped):
    model = make()
    clean, prompt = clean_of(model, 1), "a ring in neon style"
    theirs = StableDiffusionImg2ImgPipeline(**model.pipeline.components, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt, image=clean, strength=1 - skipped, num_inference_steps=4, guidance_scale=3.0,
        generator=torch.Generator().manual_seed(7), output_type="latent",
    ).images  # fmt: skip
    ours = model.sample_latents(model.encode([prompt]), [7], SAMPLER, Start(clean=clean, skipped=skipped))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_on_a_flow_sampling_goes_on_from_the_image_on_the_straight_path():
    model = stable_diffusion_3.model()
    clean, cond = clean_of(model, 1), model.encode(["dots style"])
    first, *_ = model.walk(cond, [7], Sampler(4, 1.0), Start(clean=clean, skipped=0.5))
    s = first.t / 1000
    torch.testing.assert_close(first.x_t, (1 - s) * clean + s * model.noise([7]), rtol=1e-5, atol=1e-5)
    everything = [v.t.item() for v in list(model.walk(cond, [7], Sampler(4, 1.0)))[:-1]]
    assert first.t.item() == everything[2]


@pytest.mark.parametrize("make", [tiny.model, stable_diffusion_3.model])
def test_what_is_shown_is_kept_and_decides_what_is_hidden(make):
    model = make()
    clean, cond = clean_of(model), model.encode(["dots style"] * 2)
    shown = (torch.arange(model.latent_shape[2]) < 3).expand(2, 1, *model.latent_shape[1:])
    ours = model.sample_latents(cond, [1, 2], SAMPLER, Start(clean=clean, shown=shown))
    assert torch.equal(ours[..., :3], clean[..., :3])
    plain = model.sample_latents(cond, [1, 2], SAMPLER)
    assert (ours[..., 3:] - plain[..., 3:]).abs().max() > 1e-3
    assert torch.equal(model.sample_latents(cond, [1, 2], SAMPLER, Start(clean=clean, shown=torch.zeros_like(shown))), plain)


def test_a_start_without_an_image_is_refused():
    with raises_error("start-without-image", 0.5, "Start(clean=...)"):
        Start(skipped=0.5)


def test_a_scheduler_that_cannot_noise_is_refused():
    model = tiny.model()

    class Bare:
        config = model.pipeline.scheduler.config
        timesteps = torch.tensor([900, 500])
        init_noise_sigma = 1.0

        def set_timesteps(self, *_, **__): ...

        def step(self, out, t, x, return_dict):
            return (x,)

    model.pipeline.scheduler = Bare()
    with raises_error("no-noising", "Bare", "DDIMScheduler"):
        model.sample_latents(model.encode(["dots style"]), [1], Sampler(2, 1.0), Start(clean=clean_of(model, 1), skipped=0.5))


# --- inversion ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "most"), [(ddim, 5e-2), (stable_diffusion_3.model, 2e-3)])
def test_more_calls_a_step_lead_back_to_the_image_more_exactly(make, most):
    """Under the same condition, without guidance: the sampler's own steps are undone, on either noise path."""
    model, sampler = make(), Sampler(12, 1.0)
    clean = clean_of(model)
    null = model.null(2)

    def error(calls: int) -> float:
        back = model.sample_latents(null, [0, 0], sampler, Start(noise=invert(model, null, clean, sampler, calls)))
        return ((back - clean).square().mean() / clean.square().mean()).sqrt().item()

    assert error(6) < min(most, error(1) / 2)


# --- the attacks ----------------------------------------------------------------------------------------------------------------


def test_the_prompts_are_the_concepts_own_none_or_a_siblings(tmp_path):
    attacked = victim(tmp_path, "ring")
    own, _ = attacked.asked()
    found = {prompt: list(Img2Img(prompt=prompt, shares=(0.5,))(attacked))[1].cond for prompt in ("erased", "null", "neighbour")}
    encode = attacked.model.encode
    assert torch.equal(found["erased"].states, encode(own).states)
    assert torch.equal(found["null"].states, encode(["", ""]).states)
    siblings = {s for p in attacked.concept.forget() for s in p.siblings}
    assert all(key.split(", given")[0] in siblings for key in found["neighbour"].keys)
    assert len(set(found["null"].keys)) == len(own)  # intervals are over images of different prompts


def test_every_image_of_a_reading_begins_from_an_image_of_its_own_prompt_by_the_base_model(tmp_path):
    attacked = victim(tmp_path, "ring")
    attack = Img2Img(shares=(0.25, 0.5))
    _, *readings = attack(attacked)
    clean = attack.make_pictures(attacked)
    assert [(r.strength, r.start.skipped) for r in readings] == [(0.25, 0.25), (0.5, 0.5)]
    assert all(torch.equal(r.start.clean, clean) for r in readings)
    assert torch.equal(clean, Img2Img().make_pictures(replace(attacked, delta={})))  # every victim is given the same
    assert len({r.noise_seeds for r in readings}) == 1


def test_a_share_of_the_columns_is_shown(tmp_path):
    _, few, half = Inpainting(shares=(0.01, 0.5))(victim(tmp_path))
    assert few.start.shown[0, 0].float().mean(0).tolist() == [1.0, *[0.0] * 7]
    assert half.start.shown[0, 0].float().mean(0).tolist() == [*[1.0] * 4, *[0.0] * 4]


def test_the_attacked_model_inverts_and_not_the_base_model(tmp_path):
    attacked = victim(tmp_path)
    attack = DDIMInversion(calls=(2,))
    _, reading = attack(attacked)
    clean, null = attack.make_pictures(attacked), attacked.model.null(2)
    by_base = invert(attacked.model, null, clean, attacked.sampler, 2)
    with swapped(attacked.model.network, attacked.delta):
        by_victim = invert(attacked.model, null, clean, attacked.sampler, 2)
    assert torch.equal(reading.start.noise, by_victim)
    assert not torch.allclose(by_victim, by_base, atol=1e-3)


@pytest.mark.parametrize("attack", [Img2Img, Inpainting])
def test_shares_rise(attack):
    with raises_error("unordered-strengths", (0.5, 0.5), "increasing order"):
        attack(shares=(0.5, 0.5))


def test_a_concept_without_a_neighbour_is_refused(tmp_path):
    attacked = victim(tmp_path)
    alone = Concept.find("Van Gogh", attacked.concept.vocabulary.general(), kind="style")
    kind = replace(alone.vocabulary.kinds["style"], members=(alone.member,))
    alone = replace(alone, vocabulary=replace(alone.vocabulary, kinds={**alone.vocabulary.kinds, "style": kind}))
    attack = Img2Img(prompt="neighbour")
    with raises_error("no-neighbour", "Van Gogh", "prompt = 'null'"):
        attack._list_prompts(replace(attacked, concept=alone), [alone.bare[0]])
