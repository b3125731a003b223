"""A model that gives NaN or infinity is an error before anything of it is kept: black images would pass for erased ones."""

from pathlib import Path

import pytest
import tiny
import torch
from raising import raises_error

from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.information.interview import Meter
from expunge.evaluation.information.retention import measure_information
from expunge.evaluation.protocol import Protocol
from expunge.models.base import DiffusionModel
from expunge.models.delta import save_delta
from expunge.models.sampling import Sampler
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = Protocol(target_seeds=1, prompts=1)


def overflowing(part: str) -> DiffusionModel:
    """A model with a part whose last layer gives infinities."""
    model = tiny.model()
    last = {"vae": model.pipeline.vae.decoder.conv_out, "unet": model.network.conv_out, "encoder": model.pipeline.vae.encoder.conv_out}
    last[part].bias.data.fill_(torch.inf)
    return model


def kept(store: Store) -> list[Path]:
    return [file for file in store.root.rglob("*") if file.suffix in (".png", ".safetensors")]


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_images_that_are_not_finite_are_refused(part: str):
    with raises_error("not-finite", 2, "fp32"):
        overflowing(part).sample(["a ring", "a hexagon"], [0, 1], Sampler(2))


def test_one_bad_image_is_counted_among_good_ones():
    model = tiny.model()
    latents = torch.zeros(3, *model.latent_shape)
    latents[1, 0, 0, 0] = torch.nan
    with raises_error("not-finite", 1):
        model.decode(latents)


def test_encoded_images_that_are_not_finite_are_refused():
    model = overflowing("encoder")
    with raises_error("not-finite", 1):
        model.encode_images(torch.zeros(1, 3, model.size, model.size, dtype=torch.uint8))


@pytest.mark.parametrize("method", ["mim-mu", "esd"], ids=["images", "trajectories"])
def test_training_keeps_no_image_that_is_not_finite(method: str, tmp_path: Path):
    store = Store(tmp_path / "cache")
    with raises_error("not-finite"):
        unlearn(overflowing("unet"), tiny.concept(), method, training=tiny.TRAINING, out=tmp_path / "run", cache=store)
    assert kept(store) == []
    assert not (tmp_path / "run" / "delta.safetensors").exists()


@pytest.mark.parametrize("part", ["vae", "delta"])
def test_an_evaluation_keeps_no_image_and_no_row_that_is_not_finite(part: str, tmp_path: Path):
    """Of a base model, or of the unlearned one alone: the base model's images are good then, and kept."""
    store, run = Store(tmp_path / "cache"), unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run")
    if part == "delta":
        save_delta(run.folder / "delta.safetensors", {n: v * torch.nan for n, v in run.delta().items()}, run.card["model"]["fingerprint"])
    model = tiny.model() if part == "delta" else overflowing("vae")
    with raises_error("not-finite"):
        evaluate(run, model, judge="main", protocol=FEW, cache=store)
    written = [file.name for file in (run.folder / "evaluation").rglob("*") if file.is_file()]
    assert [name for name in written if name.endswith((".png", ".json", ".jsonl"))] == []
    assert bool(kept(store)) == (part == "delta")


def test_information_is_measured_of_finite_predictions_alone(tmp_path: Path):
    run = unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run")
    save_delta(run.folder / "delta.safetensors", {n: v * torch.nan for n, v in run.delta().items()}, run.card["model"]["fingerprint"])
    with raises_error("not-finite"):
        measure_information(run, tiny.model(), meter=Meter(pictures=2, draws=2), cache=Store(tmp_path / "cache"))
    assert not (run.folder / "information" / "information.json").exists()
