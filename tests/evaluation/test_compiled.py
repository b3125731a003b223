"""Sampling with a network that torch compiles."""

import json
from pathlib import Path

import pytest
import tiny
import torch

from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.models import compiling
from expunge.models.compiling import compiled
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = {"sampler": Sampler(1, 1.0), "protocol": Protocol(prompts=2, target_seeds=1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("made")
    return unlearn(tiny.model(), tiny.concept(), "uce", out=folder / "run", cache=folder / "cache")


def pictures(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (cache / "pictures").glob("*.png")}


def notes(run: Run) -> list[str]:
    return json.loads((run.folder / "evaluation" / "evaluation.json").read_text())["notes"]


@pytest.mark.slow
def test_torch_translates_the_network_and_swapped_weights_count(monkeypatch: pytest.MonkeyPatch):
    """`aot_eager` traces as inductor does, and needs no C++ compiler."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    model = tiny.model()
    x_t, t, cond = model.noise([0, 1]), torch.tensor([500.0, 500.0]), model.encode(["a ring", "neon ring"])
    name, weight = next((n, w) for n, w in model.network.named_parameters() if n.endswith("to_v.weight"))
    other = {name: weight.detach() + 0.5}
    with torch.no_grad():
        plain = model.run(x_t, t, cond)
        with swapped(model.network, other):
            changed = model.run(x_t, t, cond)
        with compiled(model) as failure:
            assert failure is None
            assert model.network._compiled_call_impl is not None
            torch.testing.assert_close(model.run(x_t, t, cond), plain)
            with swapped(model.network, other):
                torch.testing.assert_close(model.run(x_t, t, cond), changed)
    assert model.network._compiled_call_impl is None
    assert not torch.allclose(plain, changed)


def test_compiled_images_are_cached_apart(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compilations = []

    def compile_network(backend: str) -> None:
        compilations.append(backend)
        model.network._compiled_call_impl = model.network._call_impl

    model = tiny.model()
    monkeypatch.setattr(model.network, "compile", compile_network)
    store = Store(tmp_path)
    evaluate(made, model, cache=store, **FEW)
    plain = pictures(tmp_path)
    evaluate(made, model, cache=store, compile_network=True, **FEW)
    both = pictures(tmp_path)
    assert compilations == ["inductor"]
    assert len(both) == 2 * len(plain)
    assert sorted(both.values()) == sorted([*plain.values()] * 2)  # the stand-in rounds as before
    assert model.network._compiled_call_impl is None


def test_a_network_that_cannot_be_compiled_samples_as_before(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = tiny.model()

    def compile_network(backend: str) -> None:
        model.network._compiled_call_impl = fail

    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("no C++ compiler here")

    monkeypatch.setattr(model.network, "compile", compile_network)
    store = Store(tmp_path)
    evaluate(made, model, cache=store, **FEW)
    plain = pictures(tmp_path)
    evaluate(made, model, cache=store, compile_network=True, **FEW)
    assert pictures(tmp_path) == plain
    assert "no C++ compiler here" in notes(made)[-1]
