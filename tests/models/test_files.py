"""Model files as people have them: variants, shards, single files, and what is broken about them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline
from raising import raises_error
from safetensors.torch import load_file, save_file

import expunge.models.loading
from expunge.models.base import DiffusionModel
from expunge.models.fingerprints import names_in_files
from expunge.models.loading import load
from expunge.models.reference import Reference, with_options
from expunge.storage.tensors import fingerprint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 492265168\n"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change(file: Path, **entries) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def give_scheduler(folder: Path, kind: str, **settings) -> None:
    change(folder / "model_index.json", scheduler=["diffusers", kind])
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": kind, "num_train_timesteps": 1000} | settings))


# --- which files are read -------------------------------------------------------------------------------------------------


def test_half_precision_files_alone_are_found(tmp_path):
    tiny.pipeline().to(torch.float16).save_pretrained(tmp_path / "model", variant="fp16")
    loaded = load(tmp_path / "model")
    assert loaded.precision == "fp32"
    assert loaded.fingerprint == load(f"{tmp_path / 'model'}#variant=fp16", dtype="fp16").fingerprint != tiny.model().fingerprint


def test_a_part_without_the_variant_is_read_without_it(folder):
    (folder / UNET).rename((folder / UNET).with_suffix(".fp16.safetensors"))
    assert load(folder).fingerprint == tiny.model().fingerprint


def test_where_both_are_there_the_variant_is_a_choice(folder):
    other = {name: value + 1 for name, value in load_file(folder / UNET).items()}
    save_file(other, (folder / UNET).with_suffix(".fp16.safetensors"))
    assert load(folder).fingerprint == tiny.model().fingerprint
    chosen = load(f"{folder}#variant=fp16")
    assert torch.equal(chosen.network.conv_in.bias, tiny.pipeline().unet.conv_in.bias + 1)
    with raises_error("unknown-variant", "ema"):
        load(f"{folder}#variant=ema")


def test_several_variants_without_a_plain_file_are_a_question(folder):
    for variant in ("fp16", "ema"):
        shutil.copy(folder / UNET, (folder / UNET).with_suffix(f".{variant}.safetensors"))
    (folder / UNET).unlink()
    with raises_error("several-variants", ["ema", "fp16"]):
        load(folder)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_shards_are_one_model(folder, dtype):
    shutil.rmtree(folder / "unet")
    tiny.pipeline().unet.save_pretrained(folder / "unet", max_shard_size="40KB")
    shards = sorted((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 2
    assert load(folder, dtype=dtype).fingerprint == tiny.model().fingerprint
    shards[1].unlink()
    with raises_error("missing-shard", str(folder / "unet")):
        load(folder)


def test_weights_are_read_in_the_precision_that_is_asked_for(folder, monkeypatch):
    """And the fingerprint is that of the files, tensor by tensor: no part is in float32."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(folder / "cache"))  # nothing is known of the files
    kind, seen = type(tiny.pipeline()), []
    read = kind.from_pretrained
    monkeypatch.setattr(kind, "from_pretrained", lambda *given, **named: seen.append(named["dtype"]) or read(*given, **named))
    loaded = load(folder, dtype="bf16")
    assert seen == [torch.bfloat16]
    networks = loaded.network, loaded.pipeline.text_encoder, loaded.pipeline.vae
    assert {p.dtype for part in networks for p in part.parameters()} == {torch.bfloat16}
    assert loaded.fingerprint == tiny.model().fingerprint
    assert fingerprint(loaded.network) != fingerprint(tiny.pipeline().unet)  # it is rounded


def test_names_in_files(tmp_path):
    """Tensors that share memory need one entry; another shape is another tensor."""
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    second.weight = first.weight
    both = torch.nn.ModuleDict({"a": first, "b": second})
    entries = {"b.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2), "b.bias": torch.zeros(2)}
    save_file(entries, tmp_path / "fits.safetensors")
    assert names_in_files(both, [tmp_path / "fits.safetensors"]) == {
        "a.bias": "a.bias", "a.weight": "b.weight", "b.bias": "b.bias", "b.weight": "b.weight",
    }  # fmt: skip
    save_file(entries | {"b.weight": torch.zeros(3, 2)}, tmp_path / "other.safetensors")
    assert names_in_files(both, [tmp_path / "other.safetensors"]) is None


# --- a single file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def single(saved, tmp_path) -> Path:
    """A checkpoint of the network alone, in diffusers' own names."""
    save_file(load_file(saved / UNET), tmp_path / "network.safetensors")
    return tmp_path / "network.safetensors"


def test_a_single_file_says_what_it_lacks(single, saved, tmp_path, monkeypatch):
    def offline(*given, **named):
        raise OSError("no network")

    monkeypatch.setattr(DiffusionPipeline, "download", offline)
    with raises_error("missing-configuration", "stable-diffusion-v1-5/stable-diffusion-v1-5"):
        load(single)
    bare = tmp_path / "bare"
    shutil.copytree(saved, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    with raises_error("incomplete-checkpoint", str(single)):
        load(f"{single}#config={bare}")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_single_file_with_the_other_parts_beside_its_configuration(single, saved, dtype):
    loaded = load(f"{single}#config={saved}", dtype=dtype)
    assert loaded.fingerprint == tiny.model().fingerprint
    assert loaded.precision == dtype
    assert torch.equal(loaded.network.conv_in.bias.float(), tiny.pipeline().unet.conv_in.bias.to(loaded.dtype).float())


def test_the_text_of_a_reference_is_read_back():
    assert Reference.parse("owner/model#variant=fp16") == Reference("owner/model", "fp16")
    text = with_options("a b.safetensors", None, "/some where/folder")
    assert Reference.parse(text) == Reference("a b.safetensors", None, "/some where/folder")
    assert with_options("canvas", None, None) == "canvas"
    with raises_error("unknown-model-option", "x#sort=1"):
        Reference.parse("x#sort=1")


# --- what is broken or odd ------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer instead of weights": (lambda f: (f / UNET).write_text(POINTER), "lfs-pointer"),
    "pointer instead of a tokenizer": (lambda f: (f / "tokenizer" / "tokenizer.json").write_text(POINTER), "lfs-pointer"),
    "pointer instead of the index": (lambda f: (f / "model_index.json").write_text(POINTER), "lfs-pointer"),
    "cut weights": (lambda f: (f / UNET).write_bytes((f / UNET).read_bytes()[:-100]), "cut-weights"),
    "cut header": (lambda f: (f / UNET).write_bytes((f / UNET).read_bytes()[:100]), "unreadable-weights"),
    "empty file": (lambda f: (f / UNET).write_bytes(b""), "unreadable-weights"),
    "the index is a list": (lambda f: (f / "model_index.json").write_text("[]"), "unreadable-index"),
    "images that are not square": (lambda f: change(f / "unet" / "config.json", sample_size=[8, 12]), "sample-size"),
    "no size of images": (lambda f: change(f / "unet" / "config.json", sample_size=None), "sample-size"),
    "a scheduler without a path": (lambda f: give_scheduler(f, "IPNDMScheduler"), "unknown-noise-path"),
    "a scheduler that diffusers lacks": (lambda f: give_scheduler(f, "FancyNewScheduler"), "unreadable-model"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_one_clear_line(folder, case):
    break_it, rule = BROKEN[case]
    break_it(folder)
    with raises_error(rule) as caught:
        assert load(folder).latent_shape
    assert "\n" not in str(caught.value)
    assert caught.value.hint.startswith("Try")


def test_a_size_may_be_a_pair(folder):
    change(folder / "unet" / "config.json", sample_size=[8, 8])
    assert load(folder).latent_shape == tiny.model().latent_shape


def test_a_tokenizer_without_a_length_has_that_of_its_text_encoder(folder):
    file = folder / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "model_max_length"}))
    loaded = load(folder)
    assert loaded.readings[0].length == tiny.tokenizer().model_max_length
    assert torch.equal(loaded.encode(["a ring"]).states, tiny.model().encode(["a ring"]).states)


def test_a_number_of_steps_that_a_scheduler_cannot_take(folder):
    give_scheduler(folder, "LCMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    model: DiffusionModel = load(folder)
    assert model.sample(["a ring"], [0], expunge.Sampler(2, 0)).shape == (1, 3, model.size, model.size)
    with raises_error("sampler-steps", 60):
        model.sample(["a ring"], [0], expunge.Sampler(60, 0))


@pytest.mark.parametrize("name", ["weights.ckpt", "diffusion_pytorch_model.bin", "/model/esd.pt"])
def test_a_pickle_is_refused_by_its_name(name):
    with raises_error("pickle", name):
        load(name)


def test_a_folder_of_one_part_says_what_it_is(folder):
    with raises_error("not-a-model-folder", str(folder / "unet")) as caught:
        load(folder / "unet")
    assert "UNet2DConditionModel" in str(caught.value)
    assert "adopt" in caught.value.hint
