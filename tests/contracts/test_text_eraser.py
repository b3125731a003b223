"""A closed form's edit as one matrix: at strength 1 the base model predicts what the edited one does, at 0 what it always did."""

from pathlib import Path

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline
from families import stable_diffusion_3
from raising import raises_error
from safetensors.torch import save_file

from expunge.diffusion.types import Point
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.stable_diffusion import StableDiffusion
from expunge.models.text_eraser import TextEraser
from expunge.runs.compose import compose
from expunge.runs.export import load, write_text_eraser
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [unlearn(base, tiny.concept(name), "uce", out=folder / name, cache=Store.default()) for name in ("neon", "ring")]


@torch.no_grad()
def predicted(model: DiffusionModel) -> torch.Tensor:
    x_t, t = model.noise([0, 1, 2]), torch.tensor([100, 500, 900])
    return model.predict(Point(x_t, t, model.encode(["a ring in neon style", "dots style", ""]), ("0", "1", "2")))


def edited(run: Run) -> torch.Tensor:
    model = tiny.model()
    with swapped(model.network, run.delta()):
        return predicted(model)


def test_at_strength_one_it_is_the_edit_and_at_zero_nothing(base, runs, tmp_path):
    write_text_eraser(base, runs[0], tmp_path / "neon.safetensors")
    eraser, pipeline = TextEraser.read(tmp_path / "neon.safetensors"), tiny.pipeline()
    model, before = StableDiffusion(pipeline), predicted(tiny.model())
    assert (edited(runs[0]) - before).abs().max() > 1e-2
    with eraser.attach(pipeline):
        torch.testing.assert_close(predicted(model), edited(runs[0]), rtol=0, atol=1e-4)
    with eraser.attach(pipeline, strength=0):
        assert torch.equal(predicted(model), before)
    assert torch.equal(predicted(model), before)
    assert eraser.about["run"] == runs[0].id


def test_a_strength_is_the_share_of_the_edit_on_the_states(base, runs, tmp_path):
    eraser = write_text_eraser(base, runs[0], tmp_path / "neon.safetensors")
    states = torch.randn(2, 5, 96)
    whole = eraser(states) - states
    torch.testing.assert_close(eraser(states, 0.25) - states, whole / 4, rtol=0, atol=1e-5)
    torch.testing.assert_close(eraser(states, 2) - states, whole * 2, rtol=0, atol=1e-5)
    assert eraser(states.half()).dtype == torch.float16


def test_two_erasers_are_the_two_runs_composed(base, runs, tmp_path):
    both, pipeline = compose(runs, tmp_path / "both", model=base), tiny.pipeline()
    erasers = [write_text_eraser(base, run, tmp_path / f"{run.id}.safetensors") for run in runs]
    with erasers[0].attach(pipeline), erasers[1].attach(pipeline):
        found = predicted(StableDiffusion(pipeline))
    torch.testing.assert_close(found, edited(both), rtol=0, atol=1e-4)
    with raises_error("eraser-of-composed-run", both.id, "one after another"):
        write_text_eraser(base, both, tmp_path / "both.safetensors")


def test_a_pipeline_draws_what_the_merged_one_does(base, runs, tmp_path):
    eraser, pictures = write_text_eraser(base, runs[0], tmp_path / "neon.safetensors"), {}
    pipelines = {"erased": tiny.pipeline(), "merged": load(base, runs[0]), "plain": tiny.pipeline()}
    eraser.attach(pipelines["erased"])
    for name, pipeline in pipelines.items():
        pipeline.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(0)
        shown = pipeline("a ring in neon style", num_inference_steps=3, guidance_scale=3.0, generator=noise, output_type="pt")
        pictures[name] = torch.as_tensor(shown.images)
    torch.testing.assert_close(pictures["erased"], pictures["merged"], rtol=0, atol=1e-3)
    assert (pictures["plain"] - pictures["merged"]).abs().max() > 1e-2


def test_what_is_no_eraser_or_has_no_place_for_one(base, runs, tmp_path):
    trained = unlearn(base, tiny.concept(), "esd", training=tiny.TRAINING, out=tmp_path / "esd", cache=Store.default())
    with raises_error("eraser-of-trained-run", "esd"):
        write_text_eraser(base, trained, tmp_path / "esd.safetensors")
    save_file({"tokens": torch.eye(4)}, tmp_path / "other.safetensors")
    with raises_error("not-an-eraser"):
        TextEraser.read(tmp_path / "other.safetensors")
    eraser = TextEraser(torch.eye(4))
    with raises_error("no-token-states"):
        eraser.attach(object())
    with eraser.attach(pipeline := tiny.pipeline()), raises_error("eraser-of-another-encoder", 96):
        predicted(StableDiffusion(pipeline))
    other = stable_diffusion_3.model()
    with TextEraser(torch.eye(64)).attach(other.pipeline):  # a transformer, called by keywords
        torch.testing.assert_close(predicted(other), predicted(stable_diffusion_3.model()), rtol=0, atol=1e-5)
    assert isinstance(pipeline, StableDiffusionPipeline)
