"""One model in several precisions, and its export."""

import pytest
import tiny
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import PNDMScheduler, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from raising import raises_error
from transformers import CLIPConfig, CLIPImageProcessor

from expunge.methods.base import Training
from expunge.models.loading import load
from expunge.models.stable_diffusion import StableDiffusion
from expunge.runs.cost import price
from expunge.runs.export import load as load_run
from expunge.runs.export import merge
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import carry_out, unlearn
from expunge.storage.cache import Store
from expunge.training.banks import pictured, trajectory_bank
from expunge.training.batches import gather
from expunge.training.networks import ReferenceCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_model_has_one_fingerprint_in_every_precision(folder):
    assert load(folder).fingerprint == load(folder, dtype="bf16").fingerprint == load(folder, dtype="fp16").fingerprint


def test_training_in_bf16_keeps_the_trained_tensors_in_float32_and_comes_near(folder, tmp_path):
    deltas = {}
    for dtype in ("fp32", "bf16"):
        # A store of its own, or the first would make the pictures for both.
        run = unlearn(
            folder, tiny.concept(), training=tiny.TRAINING, out=tmp_path / dtype, dtype=dtype, cache=Store(tmp_path / f"s-{dtype}")
        )
        deltas[dtype] = run.delta()
        assert {v.dtype for v in deltas[dtype].values()} == {torch.float32}
    name = next(iter(deltas["fp32"]))
    moved = {d: deltas[d][name] - tiny.pipeline().unet.get_parameter(name) for d in deltas}
    assert torch.cosine_similarity(moved["fp32"].flatten(), moved["bf16"].flatten(), dim=0) > 0.5


@pytest.mark.parametrize("method", ["esd", "dimum"])
def test_every_kind_of_bank_is_made_in_half_precision(folder, tmp_path, method):
    """The trained tensors are in float32 beside the rest: trajectories and pictures are drawn all the same."""
    training = tiny.TRAINING | {"retain_pictures": 8}
    run = unlearn(folder, tiny.concept(), method, training=training, out=tmp_path / "run", dtype="bf16", cache=Store(tmp_path / "store"))
    assert run.card["relative_change"] > 0


def test_a_pipeline_in_another_precision_than_the_runs_is_refused(tmp_path):
    pipeline = tiny.pipeline().to(torch.bfloat16)
    with raises_error("other-precision", "fp32", "dtype='bf16'"):
        unlearn(pipeline, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", dtype="fp32", cache=Store(tmp_path / "store"))
    assert not (tmp_path / "run").exists()
    run = unlearn(pipeline, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "store"))
    assert run.card["dtype"] == "bf16"


def test_pictures_that_a_run_learns_from_are_those_of_its_precision(folder, tmp_path):
    """Also where its scope, all weights, is held in float32 while it is trained; or runs in fp32 would be given them, and pay nothing."""
    model, store = load(folder, dtype="bf16"), Store(tmp_path / "store")
    plan = make_plan(model, tiny.concept(), "mim-mu", training=tiny.TRAINING, dtype="bf16", variant="full")
    assert price(plan, tiny.session(model, store)).pictures > 0
    carry_out(plan, tiny.session(model, store), tmp_path / "run")
    assert price(plan, tiny.session(model, store)).pictures == 0
    [made] = store.root.rglob("*.safetensors")
    gather(tiny.session(model, Store(tmp_path / "another")), plan.concept, plan.method.needs, plan.training, 0)
    [other] = (tmp_path / "another").rglob("*.safetensors")
    assert (other.name, other.read_bytes()) == (made.name, made.read_bytes())
    full = load(folder)
    assert price(make_plan(full, tiny.concept(), "mim-mu", training=tiny.TRAINING, variant="full"), tiny.session(full, store)).pictures > 0


def test_a_run_in_half_precision_is_merged_into_the_model_as_it_was_published(folder, tmp_path):
    """Not into one that was rounded for training: what the run did not change is what it was, and was measured so."""
    run = unlearn(folder, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", dtype="bf16", cache=Store(tmp_path / "store"))
    merged, before = load_run(folder, run, dtype="fp32"), load(folder).pipeline
    delta = run.delta()
    for name, value in merged.unet.named_parameters():
        assert torch.equal(value, delta.get(name, before.unet.get_parameter(name)))
    assert load_run(folder, run).unet.dtype == torch.bfloat16


def test_pictures_of_another_scheduler_or_precision_are_others(folder, tmp_path):
    """Or a trajectory of the scheduler before would be taken for one of the present."""
    model, store = load(folder), Store(tmp_path)

    def kept() -> int:
        pictured(tiny.session(model, store), "forget", ["a ring"], [1])
        trajectory_bank(tiny.session(model, store), tiny.concept(), Training(points=4, pictures=1), 0, ReferenceCache())
        return len(list(tmp_path.rglob("*.safetensors")))

    assert (kept(), kept()) == (2, 2)
    model.pipeline.scheduler = PNDMScheduler.from_config(model.pipeline.scheduler.config)
    assert kept() == 4


def test_a_merged_folder_needs_no_expunge(folder, tmp_path):
    run = unlearn(folder, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "store"))
    plain = StableDiffusionPipeline.from_pretrained(merge(folder, run, tmp_path / "merged", dtype="fp32"), safety_checker=None)
    ours, before = load_run(folder, run), load(folder).pipeline
    for name, value in run.delta().items():
        assert torch.equal(plain.unet.get_parameter(name), value)
        assert torch.equal(ours.unet.get_parameter(name), value)
    kept = set(dict(before.unet.named_parameters())) - set(run.delta())
    assert all(torch.equal(plain.unet.get_parameter(n), before.unet.get_parameter(n)) for n in kept)


def test_a_pipeline_in_memory_is_left_as_it_was(tmp_path):
    pipeline = tiny.pipeline()
    before = {n: p.clone() for n, p in pipeline.unet.named_parameters()}
    run = unlearn(pipeline, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "store"))
    assert run.card["relative_change"] > 0
    assert all(torch.equal(p, before[n]) for n, p in pipeline.unet.named_parameters())


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_network_is_left_in_its_mode(recomputes, tmp_path):
    """Whatever the run asks for; and is trained as the run says, not as it was left."""
    pipeline = tiny.pipeline()
    pipeline.unet.enable_gradient_checkpointing()
    pipeline.unet.train()
    # Of low rank a network that computes again would do so without what is added to it.
    settings = {"training": tiny.TRAINING | {"gradient_checkpointing": True}} if recomputes else {"variant": "xattn-lora"}
    unlearn(pipeline, tiny.concept(), **({"training": tiny.TRAINING} | settings), out=tmp_path / "run", cache=Store(tmp_path / "store"))
    assert pipeline.unet.training
    assert pipeline.unet.is_gradient_checkpointing


def test_a_callers_accelerator_keeps_its_precision(tmp_path):
    """And may be made after a run."""
    given = {"training": tiny.TRAINING, "cache": Store(tmp_path / "store")}
    AcceleratorState._reset_state(reset_partial_state=True)
    unlearn(tiny.pipeline(), tiny.concept(), out=tmp_path / "first", **given)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    try:
        unlearn(tiny.pipeline(), tiny.concept(), seed=1, out=tmp_path / "second", **given)
        assert accelerator.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_what_is_merged_has_the_safety_checker_that_the_model_has(tmp_path):
    pipeline = tiny.pipeline()
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    sizes = CLIPConfig(text_config=small, vision_config=small | {"image_size": 8, "patch_size": 4}, projection_dim=8)
    checked = StableDiffusionPipeline(
        **pipeline.components | {"safety_checker": StableDiffusionSafetyChecker(sizes), "feature_extractor": CLIPImageProcessor()}
    )
    checked.save_pretrained(tmp_path / "checked", safe_serialization=True)
    run = unlearn(tmp_path / "checked", tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "store"))
    merged = StableDiffusionPipeline.from_pretrained(merge(tmp_path / "checked", run, tmp_path / "merged"))
    assert torch.equal(merged.safety_checker.concept_embeds, checked.safety_checker.concept_embeds)


def test_a_cpu_does_not_train_in_half_precision(tmp_path):
    plan = make_plan(StableDiffusion(tiny.pipeline().to(torch.float16)), tiny.concept(), "esd", training=tiny.TRAINING, dtype="fp16")
    session = tiny.session(StableDiffusion(tiny.pipeline().to(torch.float16)))
    with raises_error("fp16-on-cpu", "fp16"):
        carry_out(plan, session, tmp_path / "run")
    assert not (tmp_path / "run").exists()
