"""Text encoders that leave an accelerator while nothing is encoded. The accelerator is torch's meta device."""

import pytest
import tiny
import torch

import expunge
from expunge.diffusion.types import Point
from expunge.models import loading
from expunge.models.exchange import to_pipeline
from expunge.models.resting import Resting
from expunge.models.text_encoder import Words
from expunge.runs.estimate import Estimate

DEVICE = torch.device("meta")


class Traced:
    """Stands for a text encoder: notes where it is sent."""

    def __init__(self):
        self.place, self.moves = DEVICE, []

    def parameters(self):
        yield torch.empty(1, device=self.place)

    def to(self, device: torch.device):
        self.place = device
        self.moves.append(device.type)


@pytest.fixture
def traced():
    model, encoder = tiny.model(), Traced()
    model.resting = Resting([encoder], DEVICE)
    return model, encoder


def call(model, prompt: str) -> torch.Tensor:
    x = torch.zeros(1, *model.latent_shape)
    return model.predict(Point(x, torch.tensor([5]), model.encode([prompt]), ("x",)))


def test_an_encoder_moves_when_the_network_is_called_and_back_for_a_new_prompt(traced):
    model, encoder = traced
    model.encode(["neon"])
    model.encode(["dots"])
    assert encoder.moves == []  # it is on the device already
    first = call(model, "neon")
    assert encoder.moves == ["cpu"]
    assert torch.equal(call(model, "neon"), first)
    assert encoder.moves == ["cpu"]  # the prompt was encoded before
    call(model, "a ring")
    assert encoder.moves == ["cpu", "meta", "cpu"]
    assert torch.equal(first, call(tiny.model(), "neon"))


@pytest.mark.parametrize("give", [Words, lambda model: to_pipeline(model, {}, torch.float32)])
def test_an_encoder_stays_where_others_call_it(traced, give):
    model, encoder = traced
    call(model, "neon")
    give(model)
    assert encoder.place == DEVICE
    call(model, "a ring")
    assert encoder.moves == ["cpu", "meta"]


def test_encoders_move_from_an_accelerator_that_they_were_loaded_onto(tmp_path, monkeypatch):
    tiny.pipeline().save_pretrained(tmp_path / "model")
    assert loading.load(tmp_path / "model").resting.encoders == ()
    monkeypatch.setattr(loading, "find_device", lambda device: DEVICE)
    monkeypatch.setattr(loading, "checked", lambda model, in_memory=False: model)
    model = loading.load(tmp_path / "model", "meta")
    assert model.resting.encoders == (model.pipeline.text_encoder,)
    assert loading.load(tiny.pipeline()).resting.encoders == ()


def test_an_estimate_leaves_encoders_out_while_the_network_works(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.models.outline.find_device", torch.device)
    monkeypatch.setattr("expunge.runs.estimate.speed_of", lambda *_: expunge.models.speed.Speed(1e9, 1e9, 1e9, 1e9, 1e9, 1.0))
    tiny.pipeline().save_pretrained(tmp_path / "model")

    def found(device: str) -> Estimate:
        training = tiny.TRAINING | {"points": 4, "pictures": 4}
        return expunge.estimate(tmp_path / "model", tiny.concept(), "esd", training=training, device=device)

    octets = sum(p.numel() * 4 for p in tiny.pipeline().text_encoder.parameters())
    there, here = found("cuda"), found("cpu")
    alone = sum(p.numel() * 4 for part in (tiny.pipeline().unet, tiny.pipeline().vae) for p in part.parameters())
    assert there.memory["weights"] == alone + octets
    [stage] = there.stages
    assert there.memory["training"] == int(alone + there._state(stage) + stage.passes.both_octets)
    assert here.memory["training"] > here.memory["weights"]
