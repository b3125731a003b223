"""Low-rank training on a network whose linear layers are stored in four or eight bits. Slow tests need the extra quantize."""

import json
import sys
from pathlib import Path

import pytest
import tiny
import torch
from raising import raises_error

import expunge
from expunge.models.loading import load
from expunge.models.outline import outline
from expunge.models.quantized import octets_of_network
from expunge.models.scopes import SCOPES
from expunge.runs.plan import make_plan

TRAINING = tiny.TRAINING | {"steps": 24, "lr": 2e-2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder


def unlearned(folder: Path, out: Path, **settings) -> expunge.Run:
    given = {"method": "esd", "training": TRAINING, "device": "cpu"} | settings
    return expunge.unlearn(folder, tiny.concept(), out=out, **({"variant": "xattn-lora"} if given["method"] == "esd" else {}) | given)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "away"), [("nf4", 0.3), ("int8", 0.02)])
def test_low_rank_training_on_a_quantised_network(folder, tmp_path, kind, away):
    whole, stored = load(folder), load(folder, quantization=kind)
    assert stored.fingerprint == whole.fingerprint
    assert stored.numbers == whole.numbers
    assert stored.computes_in == torch.float32
    x, times = whole.noise([1, 2]), torch.tensor([5.0, 500.0])
    with torch.no_grad():
        theirs, ours = (m.run(x, times, m.encode(["neon", "dots"])) for m in (whole, stored))
    assert 0 < (ours - theirs).norm() / theirs.norm() < away
    assert stored.rendering != whole.rendering

    run = unlearned(folder, tmp_path / "run", quantize=kind)
    losses = [json.loads(line)["loss"] for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])
    assert run.card["quantize"] == kind
    assert run.card["model"]["fingerprint"] == whole.fingerprint
    base = whole.scope(SCOPES["xattn-lora"])
    for name, value in run.delta(whole.fingerprint).items():
        change = value - base[name].detach()
        assert torch.isfinite(change).all()
        assert 0 < torch.linalg.matrix_rank(change, rtol=1e-3) <= 4
    changed = expunge.load(folder, run).unet
    assert all(torch.equal(changed.get_parameter(name), value) for name, value in run.delta().items())


@pytest.mark.slow
def test_the_precision_of_storage_is_a_part_of_what_makes_a_run(folder):
    made = [
        make_plan(load(folder, quantization=kind), tiny.concept(), "esd", variant="xattn-lora", training=TRAINING)
        for kind in (None, "nf4", "int8")
    ]
    assert len({plan.id for plan in made}) == 3
    assert [plan.tables["model"].get("quantize") for plan in made] == [None, "nf4", "int8"]


@pytest.mark.slow
def test_an_outline_has_the_id_and_about_the_bytes_of_the_quantised_model(folder):
    sketch, stored = (make(folder, "cpu", quantization="nf4") for make in (outline, load))
    plans = [make_plan(model, tiny.concept(), "esd", variant="xattn-lora", training=TRAINING) for model in (sketch, stored)]
    assert plans[0].id == plans[1].id
    linear = [m for m in stored.network.modules() if hasattr(m, "quant_state")]
    scales = sum(m.quant_state.absmax.numel() * m.quant_state.absmax.element_size() for m in linear)
    largest = 4 * max(stored.exact[f"{n}.weight"].numel() for n, m in stored.network.named_modules() if hasattr(m, "quant_state"))
    octets = sum(p.numel() * p.element_size() for p in stored.network.parameters()) + scales + largest
    assert octets_of_network(sketch.network, "nf4") == pytest.approx(octets, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"variant": "xattn"}, "quantized-scope"),
        ({"method": "uce", "training": None}, "quantized-scope"),
        ({"stop": expunge.Gone(every=2)}, "quantized-stop"),
        ({"before": "esd"}, "quantized-scope"),
        ({"before": {"method": {"name": "esd", "variant": "xattn-lora"}}}, "quantized-stages"),
        ({"quantize": "fp4"}, "unknown-quantization"),
    ],
)
def test_what_a_quantised_network_cannot_do_is_refused(folder, tmp_path, settings, rule):
    with raises_error(rule):
        unlearned(folder, tmp_path / "run", **({"quantize": "nf4"} | settings))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_pipeline_in_memory_is_not_quantised(tmp_path):
    with raises_error("quantized-in-memory"):
        unlearned(tiny.pipeline(), tmp_path, quantize="nf4")


def test_without_its_package_a_network_is_not_quantised(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with raises_error("missing-package"):
        load(folder, quantization="nf4")
