"""Our sampler and noise predictor against diffusers' own pipeline."""

import json
from collections.abc import Callable

import pytest
import tiny
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)

from expunge.diffusion.types import Point, together
from expunge.errors import ExpungeError
from expunge.models import autoencoder
from expunge.models.delta import called_with
from expunge.models.loading import load
from expunge.models.sampling import Sampler, Visit
from expunge.models.scopes import SCOPES
from expunge.models.stable_diffusion import StableDiffusion
from expunge.training.state import TrainState

PROMPTS = ["a ring in neon style", "dots style", ""]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", [None, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, HeunDiscreteScheduler])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_samples_are_those_of_the_diffusers_pipeline(prediction_type, scheduler, guidance):
    model = tiny.model(prediction_type=prediction_type)
    pipeline = model.pipeline
    if scheduler:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)  # as PNDM is shipped
    noise = model.noise([1, 2, 3])
    theirs = pipeline(PROMPTS, latents=noise, num_inference_steps=4, guidance_scale=guidance, output_type="latent").images
    *visits, ours = model.walk(model.encode(PROMPTS), [1, 2, 3], Sampler(4, guidance))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    # PNDM, which Stable Diffusion 1.x comes with, begins with a point twice; Heun looks twice at all but the last.
    assert len(visits) == {PNDMScheduler: 5, HeunDiscreteScheduler: 7}.get(scheduler, 4)
    assert all(isinstance(v, Visit) for v in visits)
    pictures = pipeline(PROMPTS, latents=noise, num_inference_steps=4, guidance_scale=guidance, output_type="pt").images
    assert (model.decode(ours).float() - pictures * 255).abs().max() < 1


@pytest.mark.parametrize("scheduler", [EulerAncestralDiscreteScheduler, DDPMScheduler])
def test_noise_that_is_drawn_on_the_way_is_a_pictures_own(scheduler):
    """From the process's generator it would differ between two models that are compared, and from one call to the next."""
    model = tiny.model()
    model.pipeline.scheduler = scheduler.from_config(model.pipeline.scheduler.config)
    cond, sampler = model.encode(PROMPTS[:2]), Sampler(4, 3.0)
    both, again = (model.sample_latents(cond, [1, 2], sampler) for _ in range(2))
    assert torch.equal(both, again)
    torch.testing.assert_close(model.sample_latents(cond[[1]], [2], sampler), both[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model.sample_latents(cond, [1, 3], sampler)[1], both[1], atol=1e-2)


def test_what_decides_a_picture_is_the_same_in_every_process():
    """diffusers lists the settings that a scheduler's file lacks, as that of SD 1.x does, in the order of a set of words."""
    model = tiny.model()
    model.pipeline.scheduler = DDIMScheduler.from_config(model.pipeline.scheduler.config)
    assert len(model.pipeline.scheduler.config["_use_default_values"]) > 1
    assert set(model.rendering["scheduler"]) & {"_use_default_values", "_name_or_path"} == set()
    assert model.rendering["scheduler"]["class"] == "DDIMScheduler"


def drawn(change: Callable[[StableDiffusionPipeline], object]) -> dict[str, object]:
    """What pictures of a pipeline that was changed are kept under."""
    model = tiny.model()
    change(model.pipeline)
    return StableDiffusion(model.pipeline).rendered_by


def test_whatever_decides_a_picture_decides_under_which_key_it_is_kept():
    def same_settings(pipeline, scheduler=LMSDiscreteScheduler):
        settings = {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
        pipeline.scheduler = scheduler(**settings)

    def another_word(pipeline):
        pipeline.tokenizer = tiny.tokenizer.__wrapped__()  # its own: the tests' models share one
        pipeline.tokenizer.add_tokens(["another"])

    plain = drawn(lambda pipeline: None)
    assert plain == drawn(lambda pipeline: None)
    changes = [
        lambda p: p.unet.register_to_config(sample_size=p.unet.config.sample_size // 2),
        lambda p: p.vae.register_to_config(scaling_factor=0.5),
        another_word,
        lambda p: p.to(torch.bfloat16),
        same_settings,
        # Made by hand these two have equal settings, none of which names the class.
        lambda p: same_settings(p, KDPM2AncestralDiscreteScheduler),
    ]
    made = [plain, *map(drawn, changes)]
    assert len({json.dumps(m, sort_keys=True, default=str) for m in made}) == len(made)


def test_while_weights_are_trained_in_float32_pictures_are_still_those_of_the_models_precision():
    model = StableDiffusion(tiny.model().pipeline.to(torch.bfloat16))
    before = model.rendered_by
    state = TrainState(model, SCOPES["full"])
    assert model.rendered_by == before
    with model.mixed(lambda: torch.autocast("cpu", torch.bfloat16)):
        assert model.rendered_by != before  # other operations are in float32 then
    state.release()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"in_channels": 9}, "inpainting"),
        ({"addition_embed_type": "text_time"}, "SDXL"),
        ({"time_cond_proj_dim": 256}, "guidance scale"),
        ({"cross_attention_dim": 2048}, "width 2048"),
    ],
)
def test_another_family_is_refused_before_it_is_called_wrongly(setting, said):
    pipeline = tiny.model().pipeline
    pipeline.unet.register_to_config(**setting)
    with pytest.raises(ExpungeError, match=said) as caught:
        load(pipeline)
    assert caught.value.rule == "unsupported-network"


class KandinskyPipeline(DiffusionPipeline):
    """A pipeline that no family is of."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)


def test_a_pipeline_of_another_class_is_refused():
    parts = tiny.model().pipeline
    with pytest.raises(ExpungeError) as caught:
        load(KandinskyPipeline(parts.unet, parts.scheduler))
    assert (caught.value.rule, caught.value.value) == ("unknown-family", "KandinskyPipeline")


def test_a_network_without_labels_is_no_class_conditional_one():
    parts = tiny.model().pipeline
    with pytest.raises(ExpungeError) as caught:
        load(DDPMPipeline(parts.unet, parts.scheduler))
    assert caught.value.rule == "unsupported-network"


def test_pictures_are_decoded_in_parts(monkeypatch):
    """All at once they take an autoencoder at full size more memory than any accelerator has."""
    model = tiny.model()
    latents = model.sample_latents(model.encode(PROMPTS), [1, 2, 3], Sampler(2, 1.0))
    whole, seen, decode = model.decode(latents), [], model.pipeline.vae.decode
    monkeypatch.setattr(autoencoder, "DECODED", 2 * model.size**2)
    monkeypatch.setattr(model.pipeline.vae, "decode", lambda part, **how: seen.append(len(part)) or decode(part, **how))
    assert (model.decode(latents).int() - whole.int()).abs().max() <= 1
    assert seen == [2, 1]


@pytest.mark.parametrize(("prediction_type", "is_karras"), [("epsilon", False), ("v_prediction", False), ("epsilon", True)])
def test_a_visit_holds_what_the_network_says_there(prediction_type, is_karras):
    """What the trajectory bank hands to ESD as free reference outputs is what calling the network would give, between timesteps too."""
    model = tiny.model(prediction_type=prediction_type)
    if is_karras:
        model.pipeline.scheduler = EulerDiscreteScheduler.from_config(model.pipeline.scheduler.config, use_karras_sigmas=True)
    cond, null = model.encode(PROMPTS[:2]), model.encode([""])
    *visits, _ = model.walk(cond, [1, 2], Sampler(3, 3.0))
    assert all(float(visit.t).is_integer() for visit in visits) is not is_karras
    for visit in visits:
        point = Point(visit.x_t, visit.t.repeat(2), cond, ("a", "b"))
        with torch.no_grad():
            torch.testing.assert_close(model.predict(point), visit.given, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(model.predict(point.given(null)), visit.without, rtol=1e-4, atol=1e-5)


def test_a_model_draws_as_its_field_does_and_the_canvas_as_it_was_measured():
    own, canvas = tiny.model(), StableDiffusion(tiny.pipeline(), "canvas")
    assert [tiny.sampler.fget(model) for model in (own, canvas)] == [Sampler(25, 7.5), Sampler(12, 3.0)]
    assert canvas.default_sampler == Sampler(12, 3.0)  # in tests too


def test_a_prompt_is_encoded_as_the_pipeline_encodes_it():
    model = tiny.model()
    cond = model.encode([*PROMPTS, PROMPTS[0]])
    theirs, _ = model.pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    torch.testing.assert_close(cond.states[:3], theirs)
    assert torch.equal(cond.states[0], cond.states[3])
    assert cond.keys == (*PROMPTS, PROMPTS[0])


def test_other_weights_give_another_prediction_and_leave_the_network_alone():
    model = tiny.model()
    name, parameter = next((n, p) for n, p in model.network.named_parameters() if "attn2.to_v" in n)
    point = Point(torch.randn(1, 4, 8, 8), torch.tensor([500]), model.encode(["a ring"]), ("p",))
    with torch.no_grad():
        before = model.predict(point)
        other = model.predict(point, {name: parameter * 3})
        assert not torch.equal(before, other)
        assert torch.equal(model.predict(point), before)
        parameter *= 3
        assert torch.equal(model.predict(point), other)


def test_several_points_in_one_call_are_what_they_are_in_calls_of_their_own():
    model = tiny.model()
    cond = model.encode(["a ring", "neon style", ""])
    x, t = torch.randn(3, *model.latent_shape), torch.tensor([5, 500, 999])
    first, second = Point(x, t, cond, ("p", "q", "r")), Point(x[:2], t[:2], cond[[2, 0]], ("p", "q"))
    asked: list[tuple[str, ...]] = []

    def network(point: Point) -> torch.Tensor:
        asked.append(tuple(zip(point.keys, point.cond.keys, strict=True)))
        return model.predict(point)

    with torch.no_grad():
        at_once = together(network, first, second)
        apart = model.predict(first), model.predict(second)
    assert asked == [(("p", "a ring"), ("q", "neon style"), ("r", ""), ("p", ""), ("q", "a ring"))]
    for ours, theirs in zip(at_once, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_convolutions_find_their_weights_as_they_read_them_fastest():
    # Loaded, not in memory: a pipeline that a caller holds keeps the layout that he gave it.
    assert load("canvas").network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert tiny.model().network.conv_in.weight.is_contiguous()


def test_the_fingerprint_tells_models_apart():
    assert tiny.model(0).fingerprint == tiny.model(0).fingerprint
    assert tiny.model(0).fingerprint != tiny.model(1).fingerprint
    assert tiny.model(0).fingerprint != tiny.model(0, "v_prediction").fingerprint


@pytest.mark.parametrize("prompt", ["a dog", "dog style", "a ring in rnig style"])
def test_words_that_the_model_has_never_met_are_refused(prompt):
    with pytest.raises(ExpungeError) as caught:
        tiny.model().encode([prompt])
    assert (caught.value.rule, caught.value.value) == ("unknown-word", prompt)


def test_every_word_of_the_world_is_one_token():
    """Merges made word after word interfere: "pe" of pentagon is older than "pr" of propeller and would tear it."""
    from expunge.canvas.prompts import VOCABULARY

    tokenizer = tiny.tokenizer()
    assert {w: len(tokenizer(w).input_ids) for w in VOCABULARY} == dict.fromkeys(VOCABULARY, 3)
    ids = [tokenizer(w).input_ids[1] for w in VOCABULARY]
    assert len(set(ids)) == len(ids)


def test_a_prompt_longer_than_the_encoder_reads_is_refused():
    with pytest.raises(ExpungeError, match="14 tokens") as caught:
        tiny.model().encode(["a ring " * 6])
    assert (caught.value.rule, caught.value.value) == ("prompt-too-long", "a ring " * 6)


@pytest.mark.parametrize(
    ("break_it", "rule", "hint"),
    [
        (lambda f: (f / "model_index.json").unlink(), "not-a-model-folder", "another path"),
        (lambda f: (f / "model_index.json").write_text("{"), "unreadable-index", "save the pipeline again"),
        (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "no-safetensors", "safe_serialization=True"),
        (
            lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").rename(f / "unet" / "diffusion_pytorch_model.bin"),
            "no-safetensors",
            "safe_serialization=True",
        ),
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut"), "unreadable-weights", "copy it again"),
        (lambda f: __import__("shutil").rmtree(f / "tokenizer"), "missing-part", "copy or save"),
    ],
)
def test_a_broken_model_folder_is_named(tmp_path, break_it, rule, hint):
    tiny.pipeline().save_pretrained(tmp_path / "model", safe_serialization=True)
    break_it(tmp_path / "model")
    with pytest.raises(ExpungeError) as caught:
        load(tmp_path / "model")
    assert caught.value.rule == rule
    assert hint in caught.value.hint


def test_a_folder_gives_the_pipeline_back(tmp_path):
    tiny.pipeline().save_pretrained(tmp_path / "model", safe_serialization=True)
    assert load(tmp_path / "model").fingerprint == tiny.model().fingerprint
    assert isinstance(load(tiny.pipeline()), StableDiffusion)


def test_a_shared_parameter_is_replaced_under_all_its_names():
    first = torch.nn.Linear(2, 2, bias=False)
    shared = torch.nn.Sequential(first, torch.nn.Linear(2, 2, bias=False))
    shared[1].weight = first.weight
    apart = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    x, double = torch.ones(1, 2), 2 * torch.eye(2)
    assert called_with(shared, {"0.weight": double}, x).tolist() == [[4.0, 4.0]]
    torch.testing.assert_close(called_with(apart, {"0.weight": double}, x), apart[1](2 * x))
