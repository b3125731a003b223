"""One model in several precisions, and its export."""

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline

from expunge.cache import Store
from expunge.denoiser import load
from expunge.export import load as load_run
from expunge.export import merge
from expunge.run import unlearn


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
        run = unlearn(folder, tiny.concept(), training=tiny.TRAINING, out=tmp_path / dtype, dtype=dtype, store=Store(tmp_path / "store"))
        deltas[dtype] = run.delta()
        assert {v.dtype for v in deltas[dtype].values()} == {torch.float32}
    name = next(iter(deltas["fp32"]))
    moved = {d: deltas[d][name] - tiny.pipeline().unet.get_parameter(name) for d in deltas}
    assert torch.cosine_similarity(moved["fp32"].flatten(), moved["bf16"].flatten(), dim=0) > 0.5


def test_a_merged_folder_needs_no_expunge(folder, tmp_path):
    run = unlearn(folder, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", store=Store(tmp_path / "store"))
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
    run = unlearn(pipeline, tiny.concept(), training=tiny.TRAINING, out=tmp_path / "run", store=Store(tmp_path / "store"))
    assert run.card["relative_change"] > 0
    assert all(torch.equal(p, before[n]) for n, p in pipeline.unet.named_parameters())
