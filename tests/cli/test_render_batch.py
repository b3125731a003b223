"""`--render-batch`: how many images are sampled at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commandline import Said, say

from expunge.models.stable_diffusion import StableDiffusion

FEW = ("--steps", 1, "--guidance", 1, "--seeds", 1, "--target-seeds", 1, "--seed", 50)
METER = ("--pictures", 4, "--target-pictures", 8, "--draws", 2, "--maps", 0, "--seed", 50)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call that samples."""
    found: list[int] = []
    original = StableDiffusion.sample_latents

    def record(self, cond, seeds, sampler):
        found.append(len(seeds))
        return original(self, cond, seeds, sampler)

    monkeypatch.setattr(StableDiffusion, "sample_latents", record)
    return found


def test_sample(model: Path, tmp_path: Path, sizes: list[int]):
    shared = ("sample", "--model", model, "--prompt", "a ring", "--seeds", 5, "--steps", 1, "--device", "cpu", "--out")
    assert say(*shared, tmp_path / "a.png").code == 0
    assert say(*shared, tmp_path / "b.png", "--render-batch", 2).code == 0
    assert sizes == [5, 2, 2, 1]


def test_unlearn(unlearn: Callable[..., Said], tmp_path: Path, sizes: list[int]):
    said = unlearn("--target", "neon", "--pictures", 5, "--seed", 50, "--render-batch", 2, "--out", tmp_path / "r")
    assert said.code == 0, said.err
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(("verb", "few"), [("eval", FEW), ("meter", METER)])
def test_verbs_that_measure(verb: str, few: tuple, run: Path, sizes: list[int]):
    said = say(verb, run, *few, "--device", "cpu", "--render-batch", 3)
    assert said.code == 0, said.err
    assert sizes[:3] == [3, 3, 3]
    assert max(sizes) == 3


@pytest.mark.parametrize("verb", ["demo", "sample", "eval", "meter", "audit", "unlearn mim-mu"])
def test_fewer_than_one(verb: str):
    refusal = say(*verb.split(), "--render-batch", 0).refusal
    assert (refusal.rule, refusal.value) == ("invalid-value", "0")
