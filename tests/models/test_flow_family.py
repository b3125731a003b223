"""The model protocol with another family: a transformer that predicts a flow, reads three text encoders and a pooled vector."""

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import tiny
import torch
from diffusers import StableDiffusion3Pipeline
from families import stable_diffusion_3
from families.parts import T5_LENGTH
from invariants.test_runs import Interrupted, stop_after

from expunge.attacks.base import Victim
from expunge.attacks.inversion import Inversion
from expunge.diffusion.noise_path import Flow
from expunge.diffusion.types import Cond, Point
from expunge.errors import ExpungeError, Inapplicable
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.information.interview import Meter
from expunge.evaluation.information.retention import measure_information
from expunge.evaluation.protocol import Protocol
from expunge.models.loading import load
from expunge.models.sampling import Sampler, Visit
from expunge.models.scopes import SCOPES
from expunge.models.stable_diffusion_3 import StableDiffusion3
from expunge.runs.adopt import adopt
from expunge.runs.compose import compose
from expunge.runs.cost import price
from expunge.runs.export import merge, write_lora
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

PROMPTS = ["a ring in neon style", "dots style"]
METHODS = {"mim-mu": {}, "esd": {}, "sdd": {}, "spm": {}, "low rank": {"method": "mim-mu", "variant": "xattn-lora"}}


def trained(model, name: str, out, steps: int = 6, **settings):
    settings = {"method": name, "training": tiny.TRAINING | {"steps": steps}, "device": "cpu", **METHODS[name], **settings}
    return unlearn(model, tiny.concept(), out=out, **settings)


@pytest.fixture(scope="module")
def model() -> StableDiffusion3:
    """One for all tests: what it reads of a prompt it reads once. No run changes it, which a test asserts."""
    return stable_diffusion_3.model()


@pytest.fixture(scope="module")
def straight(model, tmp_path_factory) -> Callable[[str], Run]:
    """A method's run that nothing disturbed."""
    return cache(lambda method: trained(model, method, tmp_path_factory.mktemp("straight") / "run"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model as users have it: a diffusers folder."""
    path = tmp_path_factory.mktemp("sd3") / "model"
    stable_diffusion_3.pipeline().save_pretrained(path, safe_serialization=True)
    return path


# --- against diffusers -------------------------------------------------------------------------------------------------------


def test_dynamic_shifting_is_that_of_diffusers():
    model = StableDiffusion3(stable_diffusion_3.pipeline(use_dynamic_shifting=True))
    ours = model.sample_latents(model.encode(PROMPTS), [1, 2], Sampler(3, 4.0))
    theirs = stable_diffusion_3.sample(model.pipeline, PROMPTS, model.noise([1, 2]), 3, 4.0, "latent")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_step_is_the_prediction_at_its_time(model):
    """Times lie between whole ones; the prediction is the flow itself, on which an Euler step goes straight."""
    *visits, clean = model.walk(model.encode(PROMPTS), [1, 2], Sampler(3, 1.0))
    assert isinstance(model.path, Flow)
    assert all(isinstance(v, Visit) and v.without is None for v in visits)
    assert not all(float(v.t).is_integer() for v in visits)
    places = [(v.x_t, v.t.item() / 1000, v.given) for v in visits] + [(clean, 0.0, None)]
    for (x, s, flow), (after, then, _) in pairwise(places):
        torch.testing.assert_close(x + (then - s) * flow, after, rtol=1e-5, atol=1e-5)


def test_an_image_is_encoded_and_decoded_with_the_shift_of_its_autoencoder(model):
    images = torch.randint(0, 256, (2, 3, model.size, model.size), dtype=torch.uint8)
    latents = model.encode_images(images)
    config = model.pipeline.vae.config
    plain = model.pipeline.vae.encode(images.float() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(latents, ((plain - config.shift_factor) * config.scaling_factor).detach())
    assert latents.shape == (2, *model.latent_shape)
    assert model.decode(latents).shape == images.shape


# --- prompts and scopes ------------------------------------------------------------------------------------------------------


def test_the_first_row_that_another_word_changes_is_the_first_of_the_span(model):
    one, other = "a ring in neon style", "a ring in dots style"
    [span] = model.tokens([one], ("neon",)).tolist()
    rows = [i for i, kind in enumerate(span) if kind == 1]
    x, y = model.encode([one]).states[0], model.encode([other]).states[0]
    assert len(span) == len(x) == 12 + T5_LENGTH
    differs = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(x, y, strict=True)]
    assert rows == [differs.index(True), 12 + 3]  # of CLIP, which is causal; in T5 every row reads every other
    assert span.count(2) == 2


def test_rows_of_conditions_keep_their_pooled_vectors(model):
    both = model.encode(PROMPTS)
    assert torch.equal(both.extra["pooled"][1], model.encode(PROMPTS[1:]).extra["pooled"][0])
    assert torch.equal(Cond.cat([model.null(), both])[[1, 2]].extra["pooled"], both.extra["pooled"])
    assert not torch.equal(both.extra["pooled"][0], both.extra["pooled"][1])


def test_scopes_are_those_of_the_text_side_and_not_attn2(model):
    names = {name: set(model.scope(scope)) for name, scope in SCOPES.items()}
    assert names["xattn-kv"] < names["xattn"] < names["full"]
    assert names["xattn"] | names["non-xattn"] == names["full"]
    assert not names["xattn"] & names["non-xattn"]
    assert not any(".attn2." in name for name in names["xattn"])  # self-attention of the image
    assert {"context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"} < names["xattn-kv"]


@pytest.mark.parametrize(("prompt", "rule"), [("a dog", "unknown-word"), ("a ring " * 6, "prompt-too-long")])
def test_prompts_that_an_encoder_cannot_read_are_refused(model, prompt: str, rule: str):
    with pytest.raises(ExpungeError) as caught:
        model.encode([prompt])
    assert caught.value.rule == rule


# --- runs --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_method_draws_its_loss_down_and_changes_its_scope_alone(model, method: str, tmp_path):
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    run = trained(model, method, tmp_path / "run", steps=24)
    losses = [json.loads(line)["terms"]["forget"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    scope = make_plan(model, tiny.concept(), **{"method": method, **METHODS[method]}).method.scope
    assert set(run.delta(model.fingerprint)) == set(model.scope(scope))
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())
    assert run.card["model"]["family"] == "stable-diffusion-3"


def test_a_closed_form_changes_the_entrance_alone(model, tmp_path):
    run = unlearn(model, tiny.concept(), "uce", out=tmp_path / "run", device="cpu")
    delta = run.delta(model.fingerprint)
    assert delta.keys() == model.scope(SCOPES["entrance"]).keys()
    changed = {name for name, value in delta.items() if not torch.equal(value, model.network.get_parameter(name))}
    assert changed == {"context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"}  # biases stay
    twice = unlearn(model, tiny.concept("ring"), "uce", out=tmp_path / "other", device="cpu")
    both = compose([run, twice], tmp_path / "both", model).delta(model.fingerprint)
    assert all(not torch.equal(both[name], delta[name]) for name in changed)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_where_a_straight_one_does(model, straight, method: str, tmp_path):
    with pytest.raises(Interrupted):
        trained(model, method, tmp_path / "resumed", progress=tiny.watching(stop_after(3)))
    trained(model, method, tmp_path / "resumed")
    for file in ("delta.safetensors", "log.jsonl"):
        assert (tmp_path / "resumed" / file).read_bytes() == (straight(method).folder / file).read_bytes()


def test_there_is_a_gradient_where_nothing_but_noise_is_left(model):
    """As an error in the noise it would be none, whatever the network says."""
    x_t, t = torch.randn(1, *model.latent_shape), torch.tensor([1000.0])
    prediction = model.predict(Point(x_t, t, model.encode(PROMPTS[:1]), ("a",)))
    slopes = torch.autograd.grad(prediction.square().mean(), list(model.scope(SCOPES["xattn-kv"]).values()), allow_unused=True)
    assert max(slope.abs().max() for slope in slopes if slope is not None) > 1e-6


def test_the_cost_of_a_run_is_counted_by_keyword_calls_too(model, tmp_path):
    plan = make_plan(model, tiny.concept(), "esd", training=tiny.TRAINING)
    foretold = price(plan, tiny.session(model, Store(tmp_path / "cache")))
    card = trained(model, "esd", tmp_path / "run", cache=tmp_path / "cache").card
    assert foretold.backwards == card["backwards"] > 0
    assert foretold.forwards == card["forwards"]


def test_it_is_measured_without_a_judge(model, straight):
    run = straight("mim-mu")
    rows = evaluate(run, model, protocol=Protocol(prompts=2, target_seeds=1), sampler=Sampler(2, 3.0))
    values = {(row.run, row.metric): row.value for row in rows}
    assert values[(run.id, "weight_change")] == pytest.approx(run.card["relative_change"])
    assert values[(run.id, "null_drift")] > 0
    assert values[("base", "null_drift")] == 0
    assert (
        json.loads((run.folder / "evaluation" / "evaluation.json").read_text())["sampler"]["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    )


def test_its_information_is_measured(model, straight, tmp_path):
    run = straight("mim-mu")
    meter = Meter(pictures=4, target_pictures=8, draws=2, others=1, maps=0)
    found = measure_information(run, model, meter=meter, cache=tmp_path / "cache")
    assert found.rows
    assert all(abs(row.value) < 1e6 for row in found.rows)


# --- files -------------------------------------------------------------------------------------------------------------------


def test_a_merged_folder_is_loaded_by_diffusers_and_holds_the_change(model, straight, folder, tmp_path):
    run = straight("mim-mu")
    merged = StableDiffusion3Pipeline.from_pretrained(merge(folder, run, tmp_path / "merged"), trust_remote_code=False)
    base, delta = dict(model.network.named_parameters()), run.delta()
    for name, parameter in merged.transformer.named_parameters():
        torch.testing.assert_close(parameter, delta.get(name, base[name]), rtol=0, atol=0)
    again = adopt(folder, tmp_path / "merged", tiny.concept(), out=tmp_path / "adopted")
    # What nothing depends on has not moved: in the last block the text side asks no more.
    assert all(torch.equal(again.delta()[n] if n in again.delta() else base[n], value) for n, value in delta.items())


def test_a_run_of_low_rank_is_a_lora_file_that_diffusers_adds(straight, folder, tmp_path):
    run = straight("low rank")
    assert write_lora(folder, run, tmp_path / "lora.safetensors") < 1e-4
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, trust_remote_code=False)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    parameters = dict(pipeline.transformer.named_parameters())
    for name, value in run.delta().items():
        torch.testing.assert_close(parameters[name].detach(), value, rtol=1e-4, atol=1e-5)


def test_a_folder_is_the_model_in_memory_and_hashed_once(model, folder, monkeypatch):
    assert load(folder).fingerprint == model.fingerprint
    monkeypatch.setattr("expunge.models.base.fingerprint", lambda *networks: pytest.fail("hashed again"))
    assert load(folder).fingerprint
    with pytest.raises(pytest.fail.Exception):
        assert stable_diffusion_3.model().fingerprint  # in memory it may have been changed since it was loaded


# --- what it cannot do -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rule"), [("fmn", "no-attention-maps")])
def test_methods_that_do_not_fit_the_family_are_refused(model, method: str, rule: str):
    with pytest.raises(ExpungeError) as caught:
        make_plan(model, tiny.concept(), method)
    assert (caught.value.rule, caught.value.value) == (rule, "stable-diffusion-3")
    assert caught.value.hint.startswith("Try ")


def test_attacks_on_words_do_not_apply(model):
    victim = Victim(tiny.session(model), tiny.concept(), pictures=2)
    with pytest.raises(Inapplicable) as caught:
        next(Inversion(steps=2)(victim))
    assert caught.value.rule == "several-text-encoders"
