"""Costs that are known from configurations alone, and what they count."""

import shutil
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from raising import raises_error
from torch import nn

import expunge
from expunge.cli import main
from expunge.errors import ExpungeWarning
from expunge.models import speed
from expunge.models.loading import load
from expunge.models.outline import UNKNOWN, is_identified, is_outline, octets_of, outline
from expunge.models.passes import Passes, Work, count_passes, counting
from expunge.models.quantized import octets_of_network
from expunge.models.scopes import SCOPES
from expunge.runs.cost import Price, pace, passes_of, price
from expunge.runs.plan import can_be_quantized, make_plan
from expunge.storage.cache import Store
from expunge.storage.pruning import entries

RATES = speed.Speed(1e9, 2e9, 4e9, 1e9, 1e3, 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def known_speed(monkeypatch):
    monkeypatch.setattr("expunge.runs.estimate.speed_of", lambda device, dtype, progress: RATES)
    monkeypatch.setattr("expunge.runs.cost.speed_of", lambda device, dtype: RATES)


def test_an_outline_is_priced_as_the_model_is(folder):
    sketch, whole = outline(folder, "cpu"), load(folder)
    assert is_outline(sketch)
    assert not is_outline(whole)
    assert sketch.fingerprint == whole.fingerprint
    assert sketch.rendering == whole.rendering
    for method in ("mim-mu", "esd", "fmn"):
        plans = [make_plan(model, tiny.concept(), method, training=tiny.TRAINING) for model in (sketch, whole)]
        assert plans[0].id == plans[1].id
        one, other = (price(plan, tiny.session(model)) for plan, model in zip(plans, (sketch, whole), strict=True))
        assert one == other != Price(0, 0, 0)


def test_an_estimate_needs_no_weights(folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    found = expunge.estimate(bare, tiny.concept(), "mim-mu", training=tiny.TRAINING, device="cpu", cache=tmp_path / "cache")
    assert found.plan.fingerprint == UNKNOWN
    assert not is_identified(found.session.model)
    assert not (tmp_path / "cache").exists()
    network = tiny.pipeline().unet
    assert found.total == sum(p.numel() for p in network.parameters())
    assert found.trained == sum(p.numel() for n, p in network.named_parameters() if ".attn2." in n)
    assert found.disk == 4 * 5 * found.trained
    assert found.memory is not None
    assert found.memory["weights"] < found.memory["training"] == max(found.memory.values())
    [stage] = found.stages
    assert stage.rows == 2 * 4  # mim-mu predicts each point of a batch of 4 under two prompts
    assert found.seconds == pytest.approx(stage.pace.seconds(found.price))


@pytest.mark.parametrize("method", ["esd", "supplant", "uce"])
def test_a_second_outline_is_made_of_what_the_first_one_kept(method, folder, monkeypatch):
    """Also for methods that read the tokenizer's words, or where a prompt's last token is."""

    def found() -> tuple[object, ...]:
        training = None if method == "uce" else tiny.TRAINING
        it = expunge.estimate(folder, tiny.concept(), method, training=training, device="cpu")
        return it.price, it.seconds, it.flops, it.memory, it.disk, it.trained, it.total, it.plan.id

    first = found()
    monkeypatch.setattr("expunge.models.outline._assemble", lambda *given: pytest.fail("the libraries were used"))
    assert found() == first


def test_models_of_one_architecture_have_one_outline(folder, tmp_path, monkeypatch):
    first = outline(folder, "cpu")
    other = tmp_path / "other"
    shutil.copytree(folder, other, copy_function=shutil.copyfile)  # newer files elsewhere
    monkeypatch.setattr("expunge.models.outline._assemble", lambda *given: pytest.fail("the libraries were used"))
    assert outline(other, "cpu").place == first.place


def test_linear_layers_in_four_bits_take_less_in_every_phase(folder):
    found = expunge.estimate(folder, tiny.concept(), "esd", variant="xattn-lora", training=tiny.TRAINING, device="cpu")
    network = found.session.model.network
    saved = octets_of_network(network, None) - octets_of_network(network, "nf4")
    as_it_is, stored = found.memory_with(None), found.memory_with("nf4")
    assert saved > 0
    assert {phase: octets - stored[phase] for phase, octets in as_it_is.items()} == dict.fromkeys(as_it_is, saved)
    assert can_be_quantized(found.plan)
    assert not can_be_quantized(make_plan(found.session.model, tiny.concept(), "esd", training=tiny.TRAINING))


def test_an_outline_is_of_the_configuration_as_it_is_now(folder, tmp_path):
    changed = tmp_path / "model"
    shutil.copytree(folder, changed)
    before = outline(changed, "cpu")
    file = changed / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"epsilon"', '"v_prediction"'))
    assert (before.path.predicts, outline(changed, "cpu").path.predicts) == ("epsilon", "v_prediction")


def test_what_was_not_kept_is_read_from_the_folder(folder):
    outline(folder, "cpu")
    sketch = outline(folder, "cpu")
    network, [reading] = tiny.pipeline().unet, sketch.readings
    assert type(sketch.network).__name__ == "UNet2DConditionModel" != type(sketch.network).__module__
    assert list(dict(sketch.whole.network.named_parameters())) == list(dict(network.named_parameters()))
    assert sketch.pipeline.vae_scale_factor == sketch.whole.pipeline.vae_scale_factor
    assert sketch.pipeline.components.keys() == sketch.whole.pipeline.components.keys()
    several, whole = (["a ring", "neon"],), tiny.pipeline().tokenizer
    assert reading.tokenizer(*several, padding=True).input_ids == whole(*several, padding=True).input_ids
    point = torch.empty(1, *sketch.latent_shape, device="meta"), torch.zeros(1, device="meta"), sketch.whole.template
    assert sketch.run(*point).shape == (1, *sketch.latent_shape)


def test_a_hub_id_is_priced_from_the_hubs_cache(folder, tmp_path, monkeypatch):
    """Without a call of the hub, which the tests have none of."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    at = tmp_path / "models--owner--tiny" / "snapshots" / "abc"
    shutil.copytree(folder, at, ignore=shutil.ignore_patterns("*.safetensors"))
    (at.parents[1] / "refs").mkdir()
    (at.parents[1] / "refs" / "main").write_text("abc")
    assert outline("owner/tiny", "cpu").latent_shape == outline(folder, "cpu").latent_shape
    shutil.rmtree(at / "unet")
    with raises_error("missing-part", "unet"):  # the hub, which was asked for the rest, cannot be reached
        outline("owner/tiny", "cpu")


def test_an_outline_of_which_a_part_was_pruned_is_kept_again(folder):
    outline(folder, "cpu")
    kept = outline(folder, "cpu").place
    (kept / "tokenizer-0.json").unlink()
    assert outline(folder, "cpu").readings[0].count("a ring in neon style") > 3
    assert (kept / "tokenizer-0.json").is_file()
    assert {entry.kind for entry in entries(Store.default().root) if entry.path.parent == kept} == {"outlines"}


def test_a_cache_that_cannot_be_written_costs_time_alone(folder, monkeypatch):
    def full(*given) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("expunge.models.kept_outline.write_json", full)
    monkeypatch.setenv("EXPUNGE_CACHE", str(folder.parent / "other"))
    assert outline(folder, "cpu").latent_shape == outline(folder, "cpu").latent_shape


def test_smaller_parts_of_a_batch_take_less_memory(folder):
    def training(**settings) -> int:
        found = expunge.estimate(folder, tiny.concept(), "esd", training=tiny.TRAINING | settings, device="cpu")
        return found.memory["training"]

    assert training(accumulate=2) < training()


def test_operations_are_those_that_a_pass_makes():
    """Against torch's own counter on the CPU, which leaves attention out: 3 % here."""
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny.model()
    passes = count_passes(model, list(model.scope(SCOPES["full"])), {}, 3)
    x, cond = torch.zeros(3, *model.latent_shape), model.template.expand(3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(x, torch.tensor(5), cond.states)
    assert 1 < passes.forward.flops / counter.get_total_flops() < 1.05
    assert 2.9 < passes.both.flops / passes.forward.flops < 3.1  # gradients of inputs and of all weights


def test_low_rank_is_counted_with_its_factors():
    model = tiny.model()
    low, high = (passes_of(model, SCOPES[name], 2) for name in ("xattn-lora", "full"))
    assert 0 < low.both.flops < high.both.flops
    assert next(model.network.parameters()).device.type == "cpu"


def test_memory_is_the_peak_of_what_is_referred_to():
    x = torch.empty(2**18, device="meta")  # 1 MiB
    with counting([x]) as count:
        y = x + 1
        y = y * 2  # the first is freed once the second is there
        z = y.view(2, -1)
        del y
        assert count.now == 2**20
        del z
    assert (count.now, count.peak) == (count.now_small, count.peak_small) == (0, 2 * 2**20)
    assert count.work == Work(0, 0, 0, 2 * 2 * 2**20, 2)
    large = torch.empty(2**22, device="meta")
    with counting([x, large]) as count:
        y, z = x + 1, large + large
        assert (count.now, count.peak) == (17 * 2**20, 17 * 2**20)
        z = torch.cat([z, large])
    assert (count.peak, count.peak_small) == (49 * 2**20, 17 * 2**20)
    del y, z
    assert (count.now, count.now_small) == (0, 0)


def test_a_cpu_keeps_memory_beside_small_tensors():
    passes = Passes(Work(), Work(), 100.0, 200.0, 10.0, 20.0)
    assert passes.resident("cuda") == passes
    held = passes.resident("cpu")
    assert (held.forward_octets, held.both_octets) == pytest.approx((113, 206))


def test_weights_that_are_converted_are_in_memory_once(folder, tmp_path):
    """The others are pages of their file, and convolutions have a second copy in another layout."""
    tiny.pipeline().to(dtype=torch.float16).save_pretrained(tmp_path / "half")
    whole, half = outline(folder, "cpu"), outline(tmp_path / "half", "cpu")
    again = sum(p.numel() * 4 for part in (whole.network, whole.pipeline.vae) for p in part.parameters() if p.ndim == 4)
    assert octets_of(whole) - octets_of(half) == again > 0
    assert octets_of(outline(tmp_path / "half", "cpu", "fp16")) == octets_of(whole) / 2


def test_whitening_every_layer_takes_a_square_matrix_for_each(folder):
    def training(**settings) -> int:
        found = expunge.estimate(folder, tiny.concept(), "supplant", training=tiny.TRAINING | settings, device="cpu")
        return found.memory["training"]

    widths = [p.shape[1] for p in outline(folder, "cpu").scope(SCOPES["full"]).values() if p.ndim in (2, 4)]
    assert training(whiten=1e-3, whiten_layers=True) - training(whiten=0.0) == 4 * sum(width**2 for width in widths)


def test_work_takes_as_long_as_its_parts():
    assert RATES.seconds(Work(1e9, 2e9, 4e9, 1e9, 1e3)) == 5 / 0.5


def test_a_speed_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "PATIENCE", 0.0)
    measured = speed.speed_of(torch.device("cpu"), torch.float32)
    assert min(measured.narrow, measured.wide, measured.matmul, measured.octets, measured.operations) > 0
    assert 0 < measured.share <= 1
    monkeypatch.setattr(speed, "measure", None)
    assert speed.speed_of(torch.device("cpu"), torch.float32) == measured


def test_the_speed_of_a_busy_machine_is_that_of_one_core_until_it_is_idle(tmp_path, monkeypatch):
    """With threads that wait for each other between other programs, a pass of the canvas seemed to take a hundred times as long."""
    cpu, asked = (torch.device("cpu"), torch.float32), []
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))

    def measure(device, dtype, watch):
        asked.append((torch.get_num_threads(), watch.now))
        return RATES

    monkeypatch.setattr(speed, "_measure", measure)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.append(count))
    threads, busy = [4], replace(RATES, is_busy=True)
    monkeypatch.setattr(speed, "_is_busy", lambda: True)
    for _ in range(2):  # once measured, once kept
        with pytest.warns(ExpungeWarning, match="busy"):
            assert speed.speed_of(*cpu) == busy
    assert (asked, threads[-1]) == ([(1, time.process_time)], 4)
    monkeypatch.setattr(speed, "_is_busy", lambda: False)
    for _ in range(2):
        assert speed.speed_of(*cpu) == RATES
    assert asked[1:] == [(4, time.perf_counter)]


def test_the_command_line_warns_in_one_line(monkeypatch, capsys):
    monkeypatch.undo()  # the speed that is known
    monkeypatch.setattr(speed, "_kept", lambda file: replace(RATES, is_busy=True))
    monkeypatch.setattr(speed, "_is_busy", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("default", ExpungeWarning)
        assert main(["unlearn", "mim-mu", "--target", "neon", "--dry-run"]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "busy" in line]
    assert line.startswith("warning: Other")


def test_a_pace_of_an_outline_is_an_estimate(folder):
    sketch = outline(folder, "cpu")
    found, passes = pace(sketch, SCOPES["xattn"], 4), passes_of(sketch, SCOPES["xattn"], 4)
    assert found.forward == pytest.approx(RATES.seconds(passes.forward) / 4)
    assert found.both > found.forward


def test_a_network_of_a_published_size_is_counted_in_little_memory():
    """The U-Net of SDXL: 2.6 billion numbers, and between 6 and 7 TFLOP an image of 1024 pixels."""
    with torch.device("meta"):
        net: nn.Module = UNet2DConditionModel(
            sample_size=128, block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=[1, 2, 10],
            attention_head_dim=[5, 10, 20], use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816, cross_attention_dim=2048,
        )  # fmt: skip
        given = torch.empty(1, 4, 128, 128), torch.empty(1), torch.empty(1, 77, 2048)
        added = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(2.567e9, rel=1e-3)
    with counting((*net.parameters(), *given, *added.values())) as count, torch.no_grad():
        net(*given, added_cond_kwargs=added)
    assert 6e12 < count.work.flops < 7e12
    assert count.peak < 2**31
