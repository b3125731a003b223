"""A run as a LoRA file: what diffusers reads is what was trained."""

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline
from families import stable_diffusion_3
from raising import raises_error

from expunge.diffusion.types import Point
from expunge.models.lora_names import difference_names, lora_names
from expunge.models.stable_diffusion import StableDiffusion
from expunge.runs.export import merge, write_difference, write_lora
from expunge.runs.export.lora import factors
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.tensors import read_tensors

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


def run(folder, out, variant: str):
    # Steps so long that the change is plain to see in what the network predicts.
    training = tiny.TRAINING | {"lr": 0.03}
    return unlearn(folder, tiny.concept(), "mim-mu", variant=variant, training=training, out=out, cache=Store.default())


@torch.no_grad()
def predicted(pipeline: StableDiffusionPipeline) -> torch.Tensor:
    model = StableDiffusion(pipeline)
    x_t, t = model.noise([0, 1]), torch.tensor([100, 900])
    return model.predict(Point(x_t, t, model.encode(["a ring in neon style", "dots style"]), ("0", "1")))


def test_a_run_of_low_rank_is_the_same_as_a_lora_and_merged(folder, tmp_path):
    made = run(folder, tmp_path / "run", "xattn-lora")
    assert write_lora(folder, made, tmp_path / "lora.safetensors") < 1e-4
    assert {min(t.shape) for t in read_tensors(tmp_path / "lora.safetensors").values() if t.ndim} == {4}
    merged = StableDiffusionPipeline.from_pretrained(merge(folder, made, tmp_path / "merged", dtype="fp32"))
    added, before = StableDiffusionPipeline.from_pretrained(folder), StableDiffusionPipeline.from_pretrained(folder)
    added.load_lora_weights(tmp_path / "lora.safetensors")
    torch.testing.assert_close(predicted(added), predicted(merged), rtol=0, atol=1e-5)
    assert (predicted(before) - predicted(merged)).abs().max() > 1e-3


def test_a_sequence_of_low_rank_has_that_of_its_stages_together(tmp_path):
    made = unlearn(
        tiny.model(), [tiny.concept("neon"), tiny.concept("ring")], "mim-mu", variant="xattn-lora", together="sequential",
        training=tiny.TRAINING | {"lr": 0.03}, out=tmp_path / "run", cache=Store.default(),
    )  # fmt: skip
    assert write_lora(tiny.pipeline(), made, tmp_path / "lora.safetensors") < 1e-4
    assert write_lora(tiny.pipeline(), made, tmp_path / "lora.safetensors", rank=4) > 1e-2


def test_any_run_is_brought_to_a_rank_and_what_is_missing_is_said(folder, tmp_path):
    """Of everything that `full` trains, at a rank that no matrix exceeds, biases and norms alone are missing."""
    made = run(folder, tmp_path / "run", "full")
    base = dict(tiny.pipeline().unet.named_parameters())
    change = {name: value - base[name] for name, value in made.delta().items()}
    vectors, whole = (sum(c.double().square().sum() for c in change.values() if c.ndim <= most) for most in (1, 9))
    shares = [write_lora(folder, made, tmp_path / "lora.safetensors", rank) for rank in (1, 4, 1000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx((vectors / whole).sqrt().item(), rel=1e-3)
    added = StableDiffusionPipeline.from_pretrained(folder)
    added.load_lora_weights(tmp_path / "lora.safetensors")
    added.fuse_lora()
    added.unload_lora_weights()
    found = dict(added.unet.named_parameters())
    for name, value in made.delta().items():
        torch.testing.assert_close(found[name], value if value.ndim > 1 else base[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_factors_are_the_nearest_of_their_rank(shape):
    """By the theorem of Eckart and Young: what is missing is the norm of the singular values left out."""
    change = torch.randn(*shape, dtype=torch.float64)
    sizes = torch.linalg.svdvals(change)
    for rank in (1, 2, 3, 7):
        b, a = factors(change, rank)
        assert (b.shape, a.shape) == ((shape[0], rank), (rank, shape[1]))
        torch.testing.assert_close((change - b @ a).norm(), sizes[rank:].norm(), rtol=0, atol=3e-7)


def test_what_is_no_lora(folder, tmp_path):
    made = run(folder, tmp_path / "run", "xattn-kv")
    for file, rank, rule, value in (
        (tmp_path / "a.bin", None, "wrong-suffix", str(tmp_path / "a.bin")),
        (tmp_path / "a.safetensors", 0, "rank-not-positive", 0),
    ):
        with raises_error(rule, value):
            write_lora(folder, made, file, rank)


# --- names -------------------------------------------------------------------------------------------------------------------


def layers(folder) -> set[str]:
    return {name.removesuffix(".weight") for name, p in tiny.pipeline().unet.named_parameters() if name.endswith(".weight")}


def test_kohyas_names_are_those_that_other_programs_map(folder, tmp_path):
    """ComfyUI and A1111 look a file's stems up among `lora_unet_` and the layer's name with underscores; a stem that they lack is skipped
    without an error. diffusers turns the same names back by its own converter."""
    made = run(folder, tmp_path / "run", "xattn-lora")
    write_lora(folder, made, tmp_path / "lora.safetensors")
    tensors = read_tensors(tmp_path / "lora.safetensors")
    stems = {name.partition(".")[0] for name in tensors}
    assert stems == {f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}" for name in made.delta()}
    assert stems <= {f"lora_unet_{layer.replace('.', '_')}" for layer in layers(folder)}
    assert {name.partition(".")[2] for name in tensors} == {"lora_down.weight", "lora_up.weight", "alpha"}
    assert {value.item() for name, value in tensors.items() if name.endswith(".alpha")} == {4}
    converted, alphas = StableDiffusionPipeline.lora_state_dict(dict(tensors))
    assert len(converted) == 2 * len(stems) == 2 * len(alphas)


@pytest.mark.parametrize("naming", ["kohya", "diffusers"])
def test_diffusers_draws_the_same_from_a_file_in_either_naming(folder, tmp_path, naming):
    made = run(folder, tmp_path / "run", "xattn-lora")
    write_lora(folder, made, tmp_path / "lora.safetensors", naming=naming)
    keys = read_tensors(tmp_path / "lora.safetensors").keys()
    assert {key.startswith("unet.") for key in keys} == {naming == "diffusers"}
    pictures = []
    for added in (True, False):
        pipeline = StableDiffusionPipeline.from_pretrained(folder if added else merge(folder, made, tmp_path / "merged"))
        pipeline.set_progress_bar_config(disable=True)
        if added:
            pipeline.load_lora_weights(tmp_path / "lora.safetensors")
        noise = torch.Generator().manual_seed(0)
        pictures.append(pipeline("a ring in neon style", num_inference_steps=3, generator=noise, output_type="pt").images)
    torch.testing.assert_close(*map(torch.as_tensor, pictures), rtol=0, atol=1e-4)


def test_transformers_are_named_as_diffusers_names_them(tmp_path):
    model = stable_diffusion_3.model()
    tensors = {"transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(1)}
    assert lora_names(model, tensors, "auto").keys() == {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight"}
    with raises_error("naming-of-another-family", "stable-diffusion-3"):
        lora_names(model, tensors, "kohya")
    with raises_error("unknown-naming", "a1111"):
        lora_names(model, tensors, "a1111")


def test_differences_are_the_whole_change(folder, tmp_path):
    """Under the names of ComfyUI's loader: a weight's by `.diff`, a bias's by `.diff_b` of the same layer."""
    made = run(folder, tmp_path / "run", "full")
    base, tensors = dict(tiny.pipeline().unet.named_parameters()), read_tensors(write_difference(folder, made, tmp_path / "d.safetensors"))
    assert len(tensors) == len(made.delta())
    for name, value in made.delta().items():
        layer, _, kind = name.rpartition(".")
        difference = tensors[f"lora_unet_{layer.replace('.', '_')}.{'diff' if kind == 'weight' else 'diff_b'}"]
        torch.testing.assert_close(base[name] + difference, value, rtol=0, atol=3e-7)


def test_a_parameter_of_no_layer_has_no_difference():
    with raises_error("no-name-for-difference", "scale_shift_table"):
        difference_names(tiny.model(), {"scale_shift_table": torch.ones(2)})
