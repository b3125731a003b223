"""A single-file checkpoint of a run: the file that diffusers reads holds the change, and nothing else in it moved."""

from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from families.original_names import original_name
from raising import raises_error
from safetensors.torch import load_file, save_file

from expunge.models.single_file import probe
from expunge.runs.export import write_single_file
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.tensors import metadata_of


@cache
def checkpoint() -> dict[str, torch.Tensor]:
    """The tiny model as the original code would have saved it, with an average of its weights and a part that is no network."""
    own = {original_name(name): value.detach().half() for name, value in tiny.pipeline().unet.named_parameters()}
    averages = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": value.clone() for name, value in own.items()}
    other = {"cond_stage_model.transformer.weight": torch.ones(3, 2), "model_ema.decay": torch.tensor(0.99)}
    return own | averages | other


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The base model's folder, of which the checkpoint is the half-precision form."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("run") / "run"
    return unlearn(base, tiny.concept(), "esd", variant="full", training=tiny.PLAIN, out=out, cache=Store.default())


@pytest.fixture
def original(tmp_path) -> Path:
    save_file(checkpoint(), tmp_path / "original.safetensors", {"modelspec.title": "mine"})
    return tmp_path / "original.safetensors"


def test_diffusers_reads_the_change_from_the_file(base, run, original, tmp_path):
    file = write_single_file(base, run, tmp_path / "changed.safetensors", original)
    unet = UNet2DConditionModel.from_single_file(file, config=str(base), subfolder="unet", local_files_only=True)
    before, delta = dict(tiny.pipeline().unet.named_parameters()), run.delta()
    assert len(delta) > 100
    for name, value in unet.named_parameters():
        torch.testing.assert_close(value, delta.get(name, before[name]).half().float(), rtol=0, atol=0, msg=name)


def test_all_else_in_the_file_is_as_it_was_and_the_average_is_gone(base, run, original, tmp_path):
    file = write_single_file(base, run, tmp_path / "changed.safetensors", original)
    before, after = load_file(original), load_file(file)
    assert before.keys() - after.keys() == {name for name in before if name.startswith("model_ema.")}
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved <= {original_name(name) for name in run.delta()}
    assert all(after[name].dtype == before[name].dtype for name in after)
    assert metadata_of(file).keys() == {"modelspec.title", "expunge"}


def test_a_file_of_the_network_in_diffusers_own_names_is_patched_too(base, run, tmp_path):
    save_file(tiny.pipeline().unet.state_dict(), tmp_path / "unet.safetensors")
    after = load_file(write_single_file(base, run, tmp_path / "changed.safetensors", tmp_path / "unet.safetensors"))
    assert all(torch.equal(after[name], value) for name, value in run.delta().items())


def other(base, folder):
    save_file({name: value + 0.1 for name, value in checkpoint().items()}, folder / "other.safetensors")
    return folder / "other.safetensors"


def empty(base, folder):
    save_file({"first_stage_model.x": torch.ones(2)}, folder / "vae.safetensors")
    return folder / "vae.safetensors"


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (other, "file-of-another-model"),
        (empty, "unreadable-checkpoint"),
        (lambda base, folder: None, "no-original-file"),
        (lambda base, folder: folder / "model.ckpt", "not-safetensors"),
        (lambda base, folder: folder / "nothing.safetensors", "unreadable-tensors"),
    ],
)
def test_what_cannot_be_patched_is_refused_and_nothing_written(base, run, tmp_path, given, rule):
    with raises_error(rule):
        write_single_file(base, run, tmp_path / "changed.safetensors", given(base, tmp_path))
    assert not (tmp_path / "changed.safetensors").exists()


def flux_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of Flux.1-dev's published checkpoint."""
    width, wide = 3072, 4 * 3072
    matrices = {
        "img_in": (width, 64), "txt_in": (width, 4096), "final_layer.linear": (64, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    } | {f"{name}.{layer}": (width, size if layer == "in_layer" else width)
         for name, size in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)) for layer in ("in_layer", "out_layer")}  # fmt: skip
    scales = {}
    for block in (f"double_blocks.{i}.{side}" for i in range(19) for side in ("img", "txt")):
        matrices |= {f"{block}_mod.lin": (6 * width, width), f"{block}_attn.qkv": (3 * width, width)}
        matrices |= {f"{block}_attn.proj": (width, width), f"{block}_mlp.0": (wide, width), f"{block}_mlp.2": (width, wide)}
        scales |= {f"{block}_attn.norm.{of}_norm.scale": (128,) for of in ("query", "key")}
    for block in (f"single_blocks.{i}" for i in range(38)):
        matrices |= {f"{block}.linear1": (3 * width + wide, width), f"{block}.linear2": (width, width + wide)}
        matrices |= {f"{block}.modulation.lin": (3 * width, width)}
        scales |= {f"{block}.norm.{of}_norm.scale": (128,) for of in ("query", "key")}
    return scales | {f"{n}.weight": s for n, s in matrices.items()} | {f"{n}.bias": s[:1] for n, s in matrices.items()}


def test_every_row_of_flux_has_one_place():
    """At full size, without its weights: fused matrices, and a last layer whose halves change places."""
    shapes = flux_shapes()
    where = probe(convert_flux_transformer_checkpoint_to_diffusers, shapes, {})
    with torch.device("meta"):
        network = FluxTransformer2DModel(guidance_embeds=True)
    assert len(shapes) == 780
    sizes = {name: sum(len(rows.ours) for rows in of) for name, of in where.items()}
    assert sizes == {name: len(value) for name, value in network.named_parameters()}
    used: dict[str, list[torch.Tensor]] = {}
    for rows in (rows for of in where.values() for rows in of):
        used.setdefault(rows.tensor, []).append(rows.theirs)
    assert all(torch.equal(torch.cat(used[name]).sort().values, torch.arange(shape[0])) for name, shape in shapes.items())
