"""The shipped weights are those that their card describes, and they are good."""

import json

import pytest
import torch

from expunge.canvas import WEIGHTS
from expunge.canvas.draw import draw
from expunge.canvas.judge import Judge
from expunge.canvas.prompts import OBJECTS, STYLES, prompt
from expunge.canvas.training.quality import measure_recognition, reconstruct
from expunge.models.loading import load


@pytest.fixture(scope="module")
def canvas():
    return load("canvas")


def test_the_card_describes_these_weights(canvas):
    card = json.loads((WEIGHTS / "card.json").read_text())
    assert card["fingerprint"] == canvas.fingerprint
    for quality in card["judges"].values():
        assert min(quality["fresh drawings"][head]["share"] for head in ("objects", "styles")) >= 0.995
        made, synonyms = quality["generated, main words"], quality["generated, synonyms"]
        assert made["objects"]["n"] == 1000
        assert made["objects"]["share"] >= 0.95
        assert made["styles"]["share"] >= 0.97
        for head in ("objects", "styles"):
            assert abs(made[head]["share"] - synonyms[head]["share"]) <= 0.02
            assert abs(quality["fresh drawings"][head]["share"] - quality["reconstructions"][head]["share"]) <= 0.01


def test_it_fits_in_25_megabytes_and_holds_no_pickle():
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 25e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".txt"}


EVERY = torch.arange(20).repeat_interleave(10), torch.arange(10).repeat(20)
"""Objects and styles: each pair once."""


@pytest.fixture(scope="module")
def drawings() -> torch.Tensor:
    return draw(*EVERY, 77)


@pytest.fixture(scope="module")
def reconstructions(canvas, drawings) -> torch.Tensor:
    return reconstruct(canvas, drawings)


@pytest.mark.parametrize("name", ["main", "second"])
def test_judges_know_fresh_drawings_and_reconstructions(drawings, reconstructions, name):
    judge = Judge.load(name)
    for shown in (drawings, reconstructions):
        shares = measure_recognition(judge, shown, *EVERY)
        assert min(s["share"] for s in shares.values()) >= 0.98


def test_the_pipeline_draws_what_it_is_told(canvas):
    objects, styles = torch.arange(20), torch.arange(20) % 10
    prompts = [prompt(OBJECTS[o].names[o % 2], STYLES[s].names[s % 2]) for o, s in zip(objects.tolist(), styles.tolist(), strict=True)]
    pictures = canvas.sample(prompts, list(range(20)))
    shares = measure_recognition(Judge.load("main"), pictures, objects, styles)
    assert min(s["share"] for s in shares.values()) >= 0.9
    assert pictures.float().std((1, 2, 3)).min() > 5  # none is empty
