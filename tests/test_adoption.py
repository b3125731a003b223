"""A model that was unlearned elsewhere becomes a run: exactly what differs, whatever it was published as, and nothing else."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from unittest.mock import ANY

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline
from raising import raises_error
from safetensors.torch import save_file

from expunge.audits.setup import refuse_control
from expunge.cli.app import main
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.methods import METHODS
from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.models.lora_reading import with_lora
from expunge.models.stable_diffusion import StableDiffusion
from expunge.reports.pages.run import write_report
from expunge.runs.adopt import adopt, narrowest
from expunge.runs.export import merge, write_difference, write_lora
from expunge.runs.published import differing
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

KEY = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def loaded(base) -> StableDiffusion:
    """The same, read once."""
    return load(base)


@pytest.fixture(scope="module")
def made(base, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("run") / "run"
    return unlearn(base, tiny.concept(), "esd", training=tiny.TRAINING, out=out, cache=Store.default())


def weight(value: float = 1.0, shape: tuple[int, ...] = (16, 96)) -> torch.Tensor:
    return torch.full(shape, value)


def saved(pipeline: StableDiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_merged_folder_gives_back_its_run(base, made, tmp_path):
    again = adopt(base, merge(base, made, tmp_path / "merged"), tiny.concept(), out=tmp_path / "again")
    assert again.delta().keys() <= made.delta().keys()
    whole = made.delta() | again.delta()
    assert all(torch.equal(whole[name], value) for name, value in made.delta().items())
    assert again.card["scope"] == made.card["scope"] == "xattn"
    assert again.card["relative_change"] == pytest.approx(made.card["relative_change"], rel=1e-9)
    assert again.concept() == made.concept()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_what_only_passed_through_half_precision_did_not_change(base, loaded, made, tmp_path, dtype):
    """A folder as it is published: every number is rounded, and only those of cross-attention were trained."""
    again = adopt(loaded, merge(base, made, tmp_path / "merged", dtype=dtype), tiny.concept(), out=tmp_path / "again")
    assert again.delta().keys() == made.delta().keys()
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    assert all(torch.equal(made.delta()[name].to(half).float(), value) for name, value in again.delta().items())


def test_it_is_measured_and_reported_like_any_run(base, made, tmp_path):
    save_file({f"unet.{name}": value for name, value in made.delta().items()}, tmp_path / "esd.safetensors")
    run = adopt(base, tmp_path / "esd.safetensors", tiny.concept(), name="ESD, the authors'", out=tmp_path / "run")
    assert run.id.startswith("esd--the-authors--neon-")
    model = tiny.model()
    with swapped(model.network, run.delta(model.fingerprint)):
        assert torch.equal(dict(model.network.named_parameters())[KEY], made.delta()[KEY])
    rows = evaluate(run, base, metrics=["UA"], protocol=Protocol(seeds=1, target_seeds=1, prompts=2))
    [change] = [r.value for r in rows if r.metric == "weight_change" and r.run == run.id]
    assert change == pytest.approx(made.card["relative_change"], rel=1e-6)
    assert "ESD, the authors" in write_report([run.folder], tmp_path / "report.html").read_text()


def test_the_same_once_more_is_there_already(base, loaded, made, tmp_path):
    merged = merge(base, made, tmp_path / "merged")
    first = adopt(loaded, merged, tiny.concept(), out=tmp_path / "run")
    when = (first.folder / "delta.safetensors").stat().st_mtime_ns
    assert adopt(loaded, merged, tiny.concept(), out=tmp_path / "run").id == first.id
    assert (first.folder / "delta.safetensors").stat().st_mtime_ns == when
    with raises_error("folder-of-another-run", first.id, "--out"):
        adopt(loaded, merged, tiny.concept("ring"), out=tmp_path / "run")


def test_one_that_never_saw_the_concept_is_a_control(loaded, made, tmp_path):
    save_file(made.delta(), tmp_path / "other.safetensors")
    control, other = (
        adopt(loaded, tmp_path / "other.safetensors", tiny.concept(), never_saw=it, out=tmp_path / str(it)) for it in (True, False)
    )
    refuse_control(control, made.concept().parts)
    with raises_error("not-retrained"):
        refuse_control(other, made.concept().parts)


def test_a_lora_is_added_first(base, loaded, made, tmp_path):
    write_lora(base, made, tmp_path / "lora.safetensors", rank=16)  # all that matrices so small hold
    again = adopt(loaded, tmp_path / "lora.safetensors", tiny.concept(), out=tmp_path / "again")
    matrices = {name: value for name, value in made.delta().items() if value.ndim == 2}
    assert again.delta().keys() == matrices.keys()
    for name, value in matrices.items():
        torch.testing.assert_close(again.delta()[name], value, rtol=0, atol=1e-5)


def test_differing_knows_rounding_from_change():
    ours = {"w": torch.tensor([1.0, 1 / 3])}
    for half in (torch.float16, torch.bfloat16):
        rounded = ours["w"].to(half).float()
        assert differing({"w": rounded}, ours) == differing({"w": ours["w"]}, {"w": rounded}) == {}
    assert differing({"w": torch.tensor([1.0, 0.3333])}, ours)["w"][1] == pytest.approx(0.3333)
    assert differing({"w": torch.tensor([1.0, 1 / 3 + 1e-7])}, ours).keys() == {"w"}


@pytest.mark.parametrize(
    ("names", "scope"),
    [
        ([KEY], "xattn-kv"),
        ([KEY.replace("to_k", "to_q")], "xattn"),
        (["conv_in.weight"], "non-xattn"),
        (["conv_in.weight", KEY], "full"),
    ],
)
def test_the_narrowest_scope_is_named(names, scope):
    assert narrowest(tiny.model(), dict.fromkeys(names, torch.zeros(1))).name == scope


def other_text_encoder(base, folder):
    pipeline = tiny.pipeline()
    next(pipeline.text_encoder.parameters()).data += 0.01
    return saved(pipeline, folder / "model")


def other_schedule(base, folder):
    return saved(tiny.pipeline(prediction_type="v_prediction"), folder / "model")


def other_tensors(base, folder):
    shutil.copytree(base, folder / "model")
    config = folder / "model" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": 2}))
    return folder / "model"


def file_of(**tensors):
    def made(base, folder):
        save_file({name.replace("__", "."): value for name, value in tensors.items()}, folder / "file.safetensors")
        return folder / "file.safetensors"

    return made


@pytest.mark.parametrize(
    ("given", "rule", "value"),
    [
        (lambda base, folder: base, "nothing-changed", ANY),
        (lambda base, folder: folder / "nothing.safetensors", "unreadable-tensors", ANY),
        (other_text_encoder, "other-fixed-part", "text_encoder"),
        (other_schedule, "other-noise-schedule", ANY),
        (other_tensors, "unreadable-model", ANY),
        (file_of(conv_in__bias=weight(1, (8,)), odd=weight()), "other-tensors", "odd"),
        (file_of(conv_in__bias=weight(1, (9,))), "other-shape", "conv_in.bias"),
        (file_of(conv_in__bias=weight(float("nan"), (8,))), "weights-not-finite", "conv_in.bias"),
        (file_of(model__diffusion_model__x=weight()), "incomplete-checkpoint", ANY),
        (file_of(unet__x__lora_A__weight=weight(), unet__x__lora_B__weight=weight()), "lora-does-not-fit", ANY),
    ],
)
def test_what_cannot_be_a_run_is_refused_and_nothing_written(base, loaded, tmp_path, given, rule, value):
    with raises_error(rule, value):
        adopt(loaded, given(base, tmp_path), tiny.concept(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [*METHODS, "retrain"])
def test_it_does_not_pass_for_a_method_of_ours(base, tmp_path, name):
    with raises_error("name-of-a-method", name, "--name"):
        adopt(base, base, tiny.concept(), name=name, out=tmp_path / "run")


def test_the_command_line_says_what_differs(base, made, tmp_path, capsys):
    merged = merge(base, made, tmp_path / "merged")
    words = ["--model", str(base), "--target", "neon", "--vocabulary", "canvas", "--synonym", "glowing", "--device", "cpu"]
    assert main(["adopt", str(merged), *words, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert f"change  {made.card['relative_change']:.3%} of the xattn weights' norm" in said
    assert "next: expunge eval" in said
    assert Run(tmp_path / "run").concept() == tiny.concept(synonyms=("glowing",))


# --- files of other programs -------------------------------------------------------------------------------------------------

PARAMETERS = dict(tiny.pipeline().unet.named_parameters())
LAYERS = [name.removesuffix(".weight") for name, p in PARAMETERS.items() if ".attn2.to_" in name and p.ndim == 2]
CONVOLUTION = "down_blocks.1.resnets.0.conv1"


def pairs(*layers: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """B and A of rank 2 for each layer."""
    generator, found = torch.Generator().manual_seed(5), {}
    for layer in layers:
        shape = PARAMETERS[f"{layer}.weight"].shape
        b = torch.randn(shape[0], 2, *(1,) * (len(shape) - 2), generator=generator) / 10
        found[layer] = b, torch.randn(2, *shape[1:], generator=generator) / 10
    return found


def under(layer: str) -> str:
    return layer.replace(".", "_")


def processor(layer: str) -> str:
    return layer.replace(".to_", ".processor.to_").replace("to_out.0", "to_out")


NAMINGS = {
    "peft": lambda n: (f"unet.{n}.lora_B.weight", f"unet.{n}.lora_A.weight"),
    "peft, alone": lambda n: (f"{n}.lora_B.weight", f"{n}.lora_A.weight"),
    "peft, saved by itself": lambda n: (f"base_model.model.{n}.lora_B.weight", f"base_model.model.{n}.lora_A.weight"),
    "peft, named adapter": lambda n: (f"{n}.lora_B.default.weight", f"{n}.lora_A.default.weight"),
    "diffusers": lambda n: (f"unet.{n}.lora.up.weight", f"unet.{n}.lora.down.weight"),
    "processors": lambda n: (f"unet.{processor(n)}_lora.up.weight", f"unet.{processor(n)}_lora.down.weight"),
    "processors, alone": lambda n: (f"{processor(n)}_lora.up.weight", f"{processor(n)}_lora.down.weight"),
    "kohya": lambda n: (f"lora_unet_{under(n)}.lora_up.weight", f"lora_unet_{under(n)}.lora_down.weight"),
    "LyCORIS": lambda n: (f"lycoris_{under(n)}.lora_up.weight", f"lycoris_{under(n)}.lora_down.weight"),
    "ComfyUI": lambda n: (f"diffusion_model.{n}.lora_up.weight", f"diffusion_model.{n}.lora_down.weight"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_key_of_a_lora_lands_whoever_wrote_it(naming):
    wanted = pairs(*LAYERS, CONVOLUTION)
    if "processors" in naming:
        wanted.pop(CONVOLUTION)
    tensors = {}
    for layer, (b, a) in wanted.items():
        up, down = NAMINGS[naming](layer)
        tensors |= {up: b, down: a}
        if naming == "kohya":
            tensors[f"lora_unet_{under(layer)}.alpha"] = torch.tensor(2.0)
    model = tiny.model()
    found = with_lora(model, tensors, {}, "file")
    assert found.keys() == {f"{layer}.weight" for layer in wanted}
    for layer, (b, a) in wanted.items():
        before = dict(model.network.named_parameters())[f"{layer}.weight"]
        change = (b.flatten(1) @ a.flatten(1)).reshape(before.shape)
        torch.testing.assert_close(found[f"{layer}.weight"], before.detach() + change, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "metadata", "scale"),
    [
        (torch.tensor(1.0), {}, 0.5),
        (None, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "unet.r": 2})}, 3.0),
        (None, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "unet.alpha_pattern": {"attn2.to_k": 1}})}, 0.5),
        (None, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2, "unet.use_rslora": True})}, 2**0.5),
    ],
)
def test_the_factor_of_a_lora_is_read_where_its_program_writes_it(alpha, metadata, scale):
    layer = next(name for name in LAYERS if name.endswith("to_k"))
    [(b, a)] = pairs(layer).values()
    tensors = {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b} | ({} if alpha is None else {f"{layer}.alpha": alpha})
    found = with_lora(tiny.model(), tensors, metadata, "file")
    before = PARAMETERS[f"{layer}.weight"].detach()
    torch.testing.assert_close(found[f"{layer}.weight"] - before, scale * b @ a, rtol=0, atol=1e-6)


def test_exact_differences_come_back_as_the_run_they_were_written_from(base, loaded, made, tmp_path):
    again = adopt(loaded, write_difference(base, made, tmp_path / "d.safetensors"), tiny.concept(), out=tmp_path / "again")
    assert any(name.endswith(".bias") for name in again.delta())
    for name, value in again.delta().items():
        torch.testing.assert_close(value, made.delta()[name], rtol=0, atol=3e-7)


KOHYA = f"lora_unet_{under(LAYERS[0])}"
GOOD = {f"{KOHYA}.lora_down.weight": torch.ones(2, 16), f"{KOHYA}.lora_up.weight": torch.ones(16, 2)}


@pytest.mark.parametrize(
    ("more", "rule", "named"),
    [
        ({f"{KOHYA}.hada_w1_a": torch.ones(2)}, "lora-does-not-fit", f"{KOHYA}.hada_w1_a"),
        ({f"{KOHYA}.dora_scale": torch.ones(2)}, "lora-does-not-fit", f"{KOHYA}.dora_scale"),
        ({"lora_unet_no_layer.lora_up.weight": torch.ones(2, 2)}, "lora-does-not-fit", "lora_unet_no_layer.lora_up.weight"),
        ({"unet.down_blocks.7.to_k.lora_A.weight": torch.ones(2, 2)}, "lora-does-not-fit", "unet.down_blocks.7.to_k.lora_A.weight"),
        ({f"{KOHYA.replace('_q', '_k')}.lora_up.weight": torch.ones(16, 2)}, "lora-does-not-fit", ANY),
        ({f"{KOHYA}.lora_up.weight": torch.ones(17, 2)}, "lora-does-not-fit", ANY),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(2, 2)}, "other-fixed-part", ANY),
        ({"note": torch.ones(2)}, "lora-does-not-fit", "note"),
    ],
)
def test_a_key_that_cannot_land_is_named(more, rule, named):
    with raises_error(rule, named):
        with_lora(tiny.model(), GOOD | more, {}, "file")


def test_a_lora_file_is_not_taken_in_by_halves(loaded, tmp_path):
    save_file(GOOD | {"note": torch.ones(2)}, tmp_path / "lora.safetensors")
    with raises_error("lora-does-not-fit", "note"):
        adopt(loaded, tmp_path / "lora.safetensors", tiny.concept(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "unet.", "module._orig_mod."])
def test_names_are_read_through_what_a_network_was_wrapped_in(loaded, tmp_path, prefix):
    changed = {f"{layer}.weight": PARAMETERS[f"{layer}.weight"].detach() + 0.1 for layer in LAYERS}
    save_file({f"{prefix}{name}": value for name, value in changed.items()}, tmp_path / "weights.safetensors")
    delta = adopt(loaded, tmp_path / "weights.safetensors", tiny.concept(), out=tmp_path / "run").delta()
    assert delta.keys() == changed.keys()
    assert all(torch.equal(delta[name], value) for name, value in changed.items())


def test_the_folder_of_a_network_alone(base, loaded, made, tmp_path):
    merged = merge(base, made, tmp_path / "merged")
    again = adopt(loaded, merged / "unet", tiny.concept(), out=tmp_path / "again")
    assert again.delta().keys() <= made.delta().keys()
    assert all(torch.equal(made.delta()[name], value) for name, value in again.delta().items())
    with raises_error("other-network", "AutoencoderKL"):
        adopt(loaded, merged / "vae", tiny.concept(), out=tmp_path / "other")
    with raises_error("not-a-model-folder", str(merged / "unet"), "expunge adopt"):
        load(merged / "unet")


def test_a_pickle_is_not_read_and_its_conversion_is_printed(base, tmp_path, monkeypatch):
    """The line that the error gives makes a file that is taken."""
    file, weights = tmp_path / "esd.pt", {f"{LAYERS[0]}.weight": torch.full((16, 16), 0.5)}
    torch.save(weights, file)
    with raises_error("pickled-weights", str(file)) as caught:
        adopt(base, file, tiny.concept(), out=tmp_path / "run")
    _, _, program, *arguments = shlex.split(caught.value.hint.partition("first: ")[2])
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    exec(program)
    assert adopt(base, tmp_path / "esd.safetensors", tiny.concept(), out=tmp_path / "run").delta().keys() == weights.keys()


def test_a_compiled_network_is_the_network(made, tmp_path):
    """Its parameters have their own names, and the model that it is made of is the same model."""
    pipeline = tiny.pipeline()
    pipeline.unet = torch.compile(pipeline.unet)
    assert load(pipeline).fingerprint == load(tiny.pipeline()).fingerprint
    run = unlearn(pipeline, tiny.concept(), "uce", out=tmp_path / "run", cache=Store.default())
    assert run.delta().keys() <= dict(tiny.pipeline().unet.named_parameters()).keys()
    merged = StableDiffusionPipeline.from_pretrained(merge(pipeline, run, tmp_path / "merged"))
    assert all(torch.equal(merged.unet.get_parameter(name), value) for name, value in run.delta().items())
