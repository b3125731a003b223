"""Stable Diffusion XL: what it reads beside tokens, the condition without a prompt, and what is refused; and zero terminal SNR."""

from collections.abc import Callable

import pytest
import tiny
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from families import stable_diffusion_2, stable_diffusion_xl
from raising import raises_error

from expunge.diffusion.types import Cond, Point
from expunge.methods.esd import ESD
from expunge.models.loading import load
from expunge.models.scopes import SCOPES
from expunge.models.stable_diffusion_xl import StableDiffusionXL
from expunge.runs.compose import compose
from expunge.runs.unlearn import unlearn


@pytest.mark.parametrize("zeros", [False, True])
def test_the_condition_without_a_prompt_is_the_pipelines(zeros: bool):
    pipeline = stable_diffusion_xl.pipeline()
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    without = StableDiffusionXL(pipeline).null()
    _, states, _, pooled = pipeline.encode_prompt("a ring", device=torch.device("cpu"))
    torch.testing.assert_close(without.states, states)
    torch.testing.assert_close(without.extra["pooled"], pooled)
    assert bool(without.states.any()) is not zeros


def test_the_pooled_vector_moves_the_prediction():
    model = stable_diffusion_xl.model()
    one, other = (model.encode([prompt]) for prompt in ("a ring", "dots style"))
    x_t, t = model.noise([0]), torch.tensor([500.0])
    mixed = Cond(one.states, ("mixed",), other.extra)
    plain, moved = (model.predict(Point(x_t, t, cond, ("p",))) for cond in (one, mixed))
    assert (plain - moved).abs().mean() > 1e-4


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda p: p.register_to_config(requires_aesthetics_score=True), "refiner"),
        (lambda p: p.unet.register_to_config(in_channels=9), "unsupported-network"),
        (lambda p: p.unet.register_to_config(time_cond_proj_dim=8), "unsupported-network"),
        (lambda p: setattr(p, "text_encoder", None), "unsupported-network"),
    ],
)
def test_other_networks_of_its_kind_are_refused(change: Callable, rule: str):
    pipeline = stable_diffusion_xl.pipeline()
    change(pipeline)
    with raises_error(rule):
        StableDiffusionXL(pipeline)


def test_a_refiner_is_refused_with_the_reason(tmp_path):
    """Its pipeline has one text encoder, so that it would be of no family."""
    whole = stable_diffusion_xl.pipeline()
    parts = {name: part for name, part in whole.components.items() if name not in ("text_encoder", "tokenizer")}
    refiner = StableDiffusionXLImg2ImgPipeline(
        **parts, text_encoder=None, tokenizer=None, requires_aesthetics_score=True, add_watermarker=False
    )
    refiner.save_pretrained(tmp_path / "refiner")
    for given in (refiner, tmp_path / "refiner"):
        with raises_error("refiner"):
            load(given)


def test_a_closed_form_edits_the_pooled_map_and_composes(tmp_path):
    model = stable_diffusion_xl.model()
    one, two = (unlearn(model, tiny.concept(name), "uce", out=tmp_path / name, device="cpu") for name in ("neon", "ring"))
    delta = one.delta(model.fingerprint)
    assert delta.keys() == model.scope(SCOPES["entrance"]).keys()
    changed = {name for name, value in delta.items() if not torch.equal(value, model.network.get_parameter(name))}
    assert changed == {name for name in delta if name.endswith("weight")}
    assert "add_embedding.linear_1.weight" in changed
    both = compose([one, two], tmp_path / "both", model).delta(model.fingerprint)
    assert all(not torch.equal(both[name], delta[name]) for name in changed)


def test_where_no_signal_is_left_v_is_the_negative_image():
    model = stable_diffusion_2.model()
    x_0, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([999.0, 998.5])
    signal, sigma = model.path.levels(t)
    assert signal[0] == 0
    assert torch.isfinite(sigma).all()
    goal = model.path.goal(x_0, noise, t)
    torch.testing.assert_close(goal[0], -x_0[0])
    torch.testing.assert_close(model.path.x_0(goal, model.path.add_noise(x_0, noise, t), t), x_0)
    assert model.path.lam(t, 0.01).tolist() == [0.01, 0.01]


@pytest.mark.parametrize("family", [stable_diffusion_2, stable_diffusion_xl])
def test_a_trained_method_changes_its_scope_alone(family, tmp_path):
    model = family.model()
    run = unlearn(model, tiny.concept(), "esd", training=tiny.TRAINING, out=tmp_path / "run", device="cpu")
    assert run.delta(model.fingerprint).keys() == model.scope(ESD().scope).keys()
    assert run.card["relative_change"] > 0
    moved = unlearn(
        model, tiny.concept(), "esd", variant="xattn-kv", training=tiny.TRAINING | {"whiten": 0.01}, out=tmp_path / "white", device="cpu"
    )
    assert moved.delta(model.fingerprint).keys() == model.scope(SCOPES["xattn-kv"]).keys()
