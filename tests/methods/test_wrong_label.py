"""The wrong label of SalUn, random relabelling and EraseDiff: sampled for each point, or the anchor, as in the released code."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.base import Objective, Training
from expunge.methods.erase_diff import EraseDiff
from expunge.methods.presets import read_preset
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.storage.cache import Store
from expunge.training.batches import gather

PREDICTED = {"ring": 0, "disc": 1, "star": 2}
"""The weight that is predicted under each prompt."""
METHODS = (SalUn, RandomLabel, lambda **given: EraseDiff(multiplier=1.0, goal_by="student", **given))


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("label", "goal"), [("marginal", 5.0), ("anchor", 11.0)])
def test_the_goal_is_the_prediction_under_the_chosen_label(method, label, goal):
    weight = torch.nn.Parameter(torch.tensor([2.0, 5.0, 11.0]))
    student = lambda point: weight[[PREDICTED[key] for key in point.cond.keys]].reshape(-1, 1, 1, 1)  # noqa: E731
    x = Noised(torch.zeros(1, 1, 1, 1), torch.zeros(1), cond("ring"), ("p",), torch.zeros(1, 1, 1, 1))
    retain = Noised(x.x_t, x.t, cond("disc"), ("r",), torch.full((1, 1, 1, 1), 5.0))  # which is learnt: no gradient
    batch = Batch(0, cond("ring"), cond(""), {"forget": x, "retain": retain, "marginal": cond("disc"), "anchor": cond("star")})
    terms = method(wrong_label=label)(Models(student, student, weights={"w": weight}), batch)
    [slope] = torch.autograd.grad(sum(terms.values()), [weight])
    assert slope.tolist() == [2 * (2.0 - goal), 0.0, 0.0]


@pytest.mark.parametrize("method", METHODS[1:])
def test_each_point_has_the_anchor_in_its_own_prompt(method, tmp_path):
    made: Objective = method(wrong_label="anchor")
    assert "marginal" not in made.needs
    concept = tiny.concept(anchor="dots")
    anchors = {p.prompt: p.anchor for p in concept.forget()}
    batch = gather(tiny.session(cache=Store(tmp_path)), concept, made.needs, Training(**tiny.TRAINING), 0)(0)
    assert batch.anchor.keys == tuple(anchors[key] for key in batch.forget.cond.keys)
    assert all("dots" in key for key in batch.anchor.keys)


def test_the_presets_have_one_label_as_the_released_code_has():
    for name in ("salun", "erase-diff"):
        assert read_preset(f"{name}-published")["method"]["wrong_label"] == "anchor"
    training = read_preset("erase-diff-published")["training"]
    assert training["pictures"] == training["batch_size"] == 16
