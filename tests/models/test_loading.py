"""What loading does beside reading files: fingerprints that are kept, layouts, and networks as they are trained."""

import os

import pytest
import tiny
import torch
from torch import nn

import expunge.models.base
from expunge.models.fingerprints import kept_fingerprint
from expunge.models.loading import load
from expunge.training.counters import counted


def test_a_fingerprint_is_kept_for_files_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    file, computed = tmp_path / "model.safetensors", []

    def kept() -> str:
        return kept_fingerprint([file], lambda: computed.append(1) or f"{len(computed):032x}")

    file.write_bytes(b"one")
    assert kept() == kept() == f"{1:032x}"
    os.utime(file, ns=(1, 1))  # written again, with as many bytes
    assert kept() == kept() == f"{2:032x}"
    file.write_bytes(b"other")
    assert kept() == f"{3:032x}"
    for damaged in (tmp_path / "cache" / "fingerprints").iterdir():
        damaged.write_bytes(b"\xff cut")
    assert kept() == f"{4:032x}"


def test_what_is_in_memory_is_hashed_each_time():
    computed = []
    for _ in range(2):
        assert kept_fingerprint([], lambda: computed.append(1) or "a") == "a"
    assert len(computed) == 2


def test_a_folder_is_hashed_once_and_again_when_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    tiny.pipeline().save_pretrained(tmp_path / "model", safe_serialization=True)
    hashed, compute = [], expunge.models.base.fingerprint
    monkeypatch.setattr(expunge.models.base, "fingerprint", lambda *networks: hashed.append(1) or compute(*networks))
    first = load(tmp_path / "model").fingerprint
    assert load(tmp_path / "model").fingerprint == first == tiny.model().fingerprint
    assert len(hashed) == 2  # one of the folder, one in memory
    tiny.pipeline(seed=1).save_pretrained(tmp_path / "model", safe_serialization=True)
    assert load(tmp_path / "model").fingerprint == tiny.model(seed=1).fingerprint != first


def test_no_convolution_but_those_of_images_is_laid_out_anew(monkeypatch, tmp_path):
    """A convolution over time has five axes, and no such layout."""
    pipeline = tiny.pipeline()
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=True)
    read = type(pipeline).from_pretrained

    def with_a_video_autoencoder(*given, **settings):
        found = read(*given, **settings)
        found.vae.register_module("over_time", nn.Conv3d(2, 2, 3))
        return found

    monkeypatch.setattr(type(pipeline), "from_pretrained", with_a_video_autoencoder)
    loaded = load(tmp_path / "model")
    assert loaded.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert loaded.pipeline.vae.over_time.weight.is_contiguous()


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_network_is_trained_without_dropout_and_afterwards_as_it_was(recomputes):
    """Some drop their condition at random in training mode, when they compute again too."""
    model = tiny.model()
    model.network.train()
    with model.as_trained(recomputes):
        assert not any(module.training for module in model.network.modules())
        assert model.network.is_gradient_checkpointing is recomputes
    assert model.network.training
    assert not model.network.is_gradient_checkpointing


def test_samples_are_counted_by_position_and_by_name():
    class Network(nn.Module):
        def forward(self, x, t):
            return x

    network = Network()
    with counted(network) as count:
        network(torch.zeros(3, 1), 0)
        network(x=torch.zeros(4, 1), t=0)
        network(x=[torch.zeros(1)] * 2, t=0)
    assert count.samples == 9
