"""Networks of metrics: what they compute of images, and an evaluation with all of them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from evaluation import networks as small
from PIL import Image
from raising import raises_error
from transformers import AutoImageProcessor, CLIPModel, Dinov2Model, ViTConfig, ViTImageProcessor, ViTModel

from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.features import features_of_files
from expunge.evaluation.metrics._frechet import fid
from expunge.evaluation.networks import load_network
from expunge.evaluation.protocol import Protocol
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.images import list_images

IMAGES = torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every network of `--features`, and a folder of real images of two sizes."""
    at = tmp_path_factory.mktemp("networks")
    (at / "real").mkdir()
    for i, size in enumerate((64, 64, 48, 64)):
        pixels = np.random.default_rng(i).integers(256, size=(size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(at / "real" / f"{i}.png")
    (at / "real" / "notes.txt").write_text("no image")
    clip, inception = small.clip(at / "clip"), small.scripted(small.Inception(), at / "inception.pt")
    lpips = small.scripted(small.Apart(), at / "lpips.pt")
    return {
        "FID": inception,
        "CMMD": clip,
        "FDD": small.dinov2(at / "dinov2"),
        "CLIP_score": clip,
        "LPIPS": lpips,
        "real": str(at / "real"),
    }


def test_features_are_those_of_the_networks(places: dict[str, str]):
    pixels = AutoImageProcessor.from_pretrained(places["FDD"])(images=list(IMAGES), return_tensors="pt")
    with torch.no_grad():
        token = Dinov2Model.from_pretrained(places["FDD"]).eval()(**pixels).last_hidden_state[:, 0]
        clip = CLIPModel.from_pretrained(places["CMMD"]).eval()
        seen = AutoImageProcessor.from_pretrained(places["CMMD"])(images=list(IMAGES), return_tensors="pt")
        projected = clip.visual_projection(clip.vision_model(**seen).pooler_output)
        scripted = small.Inception()(IMAGES, return_features=True)
    assert torch.allclose(load_network("FDD", places["FDD"], CPU)(IMAGES), token, atol=1e-6)
    assert torch.allclose(load_network("CMMD", places["CMMD"], CPU)(IMAGES), projected, atol=1e-6)
    assert torch.allclose(load_network("FID", places["FID"], CPU)(IMAGES), scripted, atol=1e-6)


def test_clip_score_is_a_hundred_cosines_of_image_and_prompt(places: dict[str, str]):
    prompts = ["a ring", "neon style", "a disc", "dots", "a ring in neon style"]
    found = load_network("CLIP_score", places["CLIP_score"], CPU)(IMAGES, prompts)
    net = CLIPModel.from_pretrained(places["CLIP_score"]).eval()
    words = tiny.tokenizer()(prompts, padding=True, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(places["CLIP_score"])(images=list(IMAGES), return_tensors="pt")
    with torch.no_grad():
        out = net(input_ids=words.input_ids, attention_mask=words.attention_mask, **pixels)
    expected = 100 * (out.logits_per_image.diagonal() / net.logit_scale.exp()).clamp(min=0)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_pooler_without_weights_of_its_own_does_not_count(tmp_path: Path):
    """A checkpoint of a classifier has none, so loading would make random ones."""
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16)
    net = ViTModel(config, add_pooling_layer=False).eval()
    net.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(images=list(IMAGES), return_tensors="pt")
    with torch.no_grad():
        token = net(**pixels).last_hidden_state[:, 0]
    assert torch.allclose(load_network("FDD", str(tmp_path), CPU)(IMAGES), token, atol=1e-6)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    small.dinov2(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    name = next(k for k in kept if k.endswith("mlp.fc1.weight"))
    save_file({k: v for k, v in kept.items() if k != name}, tmp_path / "model.safetensors", {"format": "pt"})
    with raises_error("unreadable-network", str(tmp_path)):
        load_network("FDD", str(tmp_path), CPU)


@pytest.mark.parametrize("key", ["FID", "CLIP_score", "LPIPS"])
def test_what_is_no_network_is_refused(tmp_path: Path, key: str):
    (tmp_path / "net.pt").write_bytes(b"no TorchScript")
    for name in (tmp_path / "net.pt", tmp_path / "nowhere"):
        with raises_error("unreadable-network", str(name)):
            load_network(key, str(name), CPU)


def test_lpips_is_that_of_its_package_or_of_a_script(places: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    apart = load_network("LPIPS", places["LPIPS"], CPU)(IMAGES, IMAGES.flip(0))
    expected = ((IMAGES.double() - IMAGES.flip(0).double()) / 127.5).square().mean((1, 2, 3))
    assert torch.allclose(apart.double(), expected, rtol=1e-5)
    made = []
    fake = SimpleNamespace(LPIPS=lambda net, verbose: made.append(net) or small.Apart())
    monkeypatch.setitem(sys.modules, "lpips", fake)
    assert torch.equal(load_network("LPIPS", "squeeze", CPU)(IMAGES, IMAGES.flip(0)), apart)
    assert made == ["squeeze"]
    monkeypatch.setitem(sys.modules, "lpips", None)
    with raises_error("missing-package", "lpips"):
        load_network("LPIPS", "vgg", CPU)


def test_real_images_of_several_sizes_are_measured_one_by_one(places: dict[str, str]):
    files = list_images(Path(places["real"]))
    assert [f.name for f in files] == [f"{i}.png" for i in range(4)]
    read = [torch.from_numpy(np.asarray(Image.open(f)).copy()).permute(2, 0, 1) for f in files]
    alone = torch.cat([small.Inception()(image[None], return_features=True) for image in read]).detach()
    assert torch.allclose(features_of_files(load_network("FID", places["FID"], CPU), files), alone, atol=1e-5)


def test_a_file_that_is_no_image_is_named(tmp_path: Path, places: dict[str, str]):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with raises_error("unreadable-image", str(tmp_path / "broken.png")):
        features_of_files(load_network("FID", places["FID"], CPU), list_images(tmp_path))


def test_an_evaluation_measures_what_papers_print_without_a_judge(places: dict[str, str], tmp_path: Path):
    store = Store(tmp_path / "store")
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=store)
    features, few = {k: v for k, v in places.items() if k != "real"}, Protocol(target_seeds=1, prompts=2)
    rows = evaluate(run, tiny.model(), protocol=few, cache=store, features=features, real=places["real"])
    by = {(r.run, r.metric): r for r in rows}
    printed = {"FID", "KID", "CMMD", "FDD", "CLIP_score", "CLIP_score_target", "LPIPS_u", "LPIPS_e"}
    printed |= {f"{name}_from_base" for name in ("FID", "KID", "CMMD", "FDD")}
    assert {metric for _, metric in by} == printed | {"weight_change", "null_drift"}
    assert {r.judge for r in rows} == {"none"}
    assert all(by["base", name].value == pytest.approx(0, abs=1e-6) for name in printed if name.endswith("_from_base") or "LPIPS" in name)
    assert by[run.id, "LPIPS_e"].value > 0
    about = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())
    assert about["networks"]["KID"] == about["networks"]["FID"] == {"name": places["FID"], "weights": about["networks"]["FID"]["weights"]}
    assert about["real"] == places["real"]
    # By hand: the retained images that were written, against the real ones.
    pairs = json.loads((run.folder / "evaluation" / "pictures.json").read_text())
    retained = [p for p in pairs if p["probe"] in ("siblings", "same_domain", "cross_domain")]
    net = load_network("FID", places["FID"], CPU)
    real = features_of_files(net, list_images(Path(places["real"])))
    for side, owner in (("base", "base"), ("unlearned", run.id)):
        own = features_of_files(net, [run.folder / "evaluation" / p[side] for p in retained])
        assert len(own) == by[owner, "FID"].n
        assert by[owner, "FID"].value == pytest.approx(fid(own, real), rel=1e-4)
    with raises_error("missing-network", "FDD_from_base"):
        evaluate(run, tiny.model(), protocol=few, cache=store, metrics=["FDD_from_base"])
    with raises_error("no-real-images", str(tmp_path / "run" / "nothing")):
        evaluate(run, tiny.model(), protocol=few, cache=store, features=features, real=tmp_path / "run" / "nothing")
