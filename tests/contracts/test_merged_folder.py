"""`merge` copies what did not change byte for byte, and writes only what did."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from huggingface_hub import ModelCard
from raising import raises_error
from safetensors.torch import load_file, save_file

from expunge.cli.app import main
from expunge.models.loading import load
from expunge.models.source import source_of
from expunge.runs.export import merge
from expunge.runs.export.folder import refuse_unmergeable
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Run:
    return unlearn(base, tiny.concept(), "uce", out=tmp_path_factory.mktemp("run") / "run", cache=Store.default())


@pytest.fixture
def model(base, tmp_path) -> Path:
    return shutil.copytree(base, tmp_path / "model")


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def change_index(folder: Path, **parts: list) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | parts, indent=1))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def test_every_file_but_the_networks_weights_is_copied(model, run, tmp_path):
    """Also what diffusers would write in another way, a checker that is a pickle, a licence, and a ControlNet."""
    StableDiffusionControlNetPipeline(
        **{name: part for name, part in tiny.pipeline().components.items() if name != "image_encoder"},
        controlnet=ControlNetModel.from_unet(tiny.pipeline().unet), requires_safety_checker=False,
    ).save_pretrained(tmp_path / "controlled")  # fmt: skip
    shutil.copytree(tmp_path / "controlled" / "controlnet", model / "controlnet")
    change_index(model, controlnet=["diffusers", "ControlNetModel"], safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    (model / "safety_checker").mkdir()
    for name, content in (("safety_checker/pytorch_model.bin", b"\x80pickle"), ("tokenizer/own.txt", b"a\r\n"), ("LICENSE.md", b"free")):
        (model / name).write_bytes(content)
    (model / "v1-5.ckpt").write_bytes(b"the base model in another form")
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"the network in another form")
    before = files(model)
    after = files(merge(model, run, tmp_path / "merged"))
    assert before.keys() - after.keys() == {"v1-5.ckpt", "unet/diffusion_pytorch_model.bin"}
    assert after.keys() - before.keys() == {"README.md", "expunge.json"}
    assert [name for name in before.keys() & after.keys() if after[name] != before[name]] == [f"unet/{WEIGHTS}"]


@pytest.mark.parametrize("layout", ["whole", "half", "shards"])
def test_the_weights_keep_the_layout_of_the_base(run, base, tmp_path, layout):
    model, pipeline = tmp_path / "model", tiny.pipeline()
    pipeline.save_pretrained(model)
    if layout == "half":
        pipeline.unet.half().save_pretrained(model / "unet", variant="fp16")
    if layout == "shards":
        shutil.rmtree(model / "unet")
        pipeline.unet.save_pretrained(model / "unet", max_shard_size="100KB")
    merged = merge(model, run, tmp_path / "merged")
    assert files(merged).keys() - {"README.md", "expunge.json"} == files(model).keys()
    for file in (model / "unet").glob("*.safetensors"):
        before, after = load_file(file), load_file(merged / "unet" / file.name)
        for name, value in before.items():
            wanted = run.delta()[name].to(value.dtype) if name in run.delta() else value
            assert torch.equal(after[name], wanted)
            assert after[name].dtype == value.dtype
    if layout == "shards":
        assert len(list((merged / "unet").glob("*.safetensors"))) > 2
        index = "unet/diffusion_pytorch_model.safetensors.index.json"
        assert (merged / index).read_bytes() == (model / index).read_bytes()
    variant, kind = ("fp16", torch.float16) if layout == "half" else (None, torch.float32)
    loaded = StableDiffusionPipeline.from_pretrained(merged, variant=variant)
    assert all(torch.equal(loaded.unet.get_parameter(n), v.to(kind).float()) for n, v in run.delta().items())


def test_a_copy_of_the_network_with_other_values_is_left_out(model, run, tmp_path):
    """Such as the weights before averaging: they have the concept, and the run says nothing of them."""
    other = {name: value + 0.1 for name, value in load_file(model / "unet" / WEIGHTS).items()}
    save_file(other, model / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    assert [file.name for file in (merge(model, run, tmp_path / "merged") / "unet").glob("*.safetensors")] == [WEIGHTS]


def test_a_precision_is_that_of_all_weights(model, run, tmp_path):
    merged = merge(model, run, tmp_path / "merged", dtype="bf16")
    assert {v.dtype for part in ("unet", "vae", "text_encoder") for v in weights(merged / part).values()} == {torch.bfloat16}
    sizes = [sum(f.stat().st_size for f in folder.rglob("*.safetensors")) for folder in (merged, model)]
    assert sizes[0] < 0.6 * sizes[1]


def test_its_card_and_origin_say_what_was_done_and_measured(model, run, tmp_path):
    (model / "README.md").write_text("---\nlicense: openrail\n---\n# base")
    measured = shutil.copytree(run.folder, tmp_path / "run")
    row = {"method": "uce", "concept": "neon", "probe": "target", "judge": "main", "ci_low": 0.9, "ci_high": 1, "n": 20, "metric": "UA"}
    rows = [row | {"run": "base", "value": 0.0, "ci_low": 0.0}, row | {"run": run.id, "value": 0.95}]
    (measured / "evaluation").mkdir()
    (measured / "evaluation" / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    merged = merge(model, measured, tmp_path / "merged")
    card = ModelCard.load(merged / "README.md")
    assert (card.data.library_name, card.data.license) == ("diffusers", "openrail")
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.metric_args["images"]) == ("UA", 0.95, 20)
    assert "| neon | UA | target | main | 0 [0, 1] | 0.95 [0.9, 1] | 20 |" in card.text
    assert str(tmp_path) not in card.content
    origin = json.loads((merged / "expunge.json").read_text())
    assert (origin["run"], origin["concept"], origin["method"]) == (run.id, ["neon"], "uce")
    assert origin["base"] == {"name": "tiny", "fingerprint": run.card.fingerprint, "network": "unet"}
    digests = {"base": {WEIGHTS: model / "unet" / WEIGHTS}, "result": {f"unet/{WEIGHTS}": merged / "unet" / WEIGHTS}}
    assert origin["sha256"] == {
        side: {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in of.items()} for side, of in digests.items()
    }


def test_a_run_that_was_not_measured_says_so(base, run, tmp_path):
    card = ModelCard.load(merge(base, run, tmp_path / "merged") / "README.md")
    assert card.data.eval_results is None
    assert "Nothing was measured" in card.text


def test_a_part_that_is_missing_is_found_before_the_run(model, tmp_path, capsys):
    change_index(model, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    with raises_error("missing-part", "safety_checker", "[null, null]"):
        refuse_unmergeable(load(model), tmp_path / "merged")
    words = ["unlearn", "uce", "--model", str(model), "--target", "neon", "--vocabulary", "canvas", "--out", str(tmp_path / "run")]
    assert main([*words, "--device", "cpu", "--merge", str(tmp_path / "merged")]) == 2
    assert "safety_checker" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_nothing_is_left_of_a_merge_that_fails(model, run, tmp_path, monkeypatch):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("expunge.runs.export.folder.rewrite", full)
    with raises_error("unwritten", str(tmp_path / "merged")):
        merge(model, run, tmp_path / "merged")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_a_pipeline_in_memory_is_saved_whole(base, run, tmp_path):
    assert source_of(load(tiny.pipeline())) is None
    merged = StableDiffusionPipeline.from_pretrained(merge(tiny.pipeline(), run, tmp_path / "merged"))
    assert all(torch.equal(merged.unet.get_parameter(n), v) for n, v in run.delta().items())
    assert (tmp_path / "merged" / "README.md").is_file()
