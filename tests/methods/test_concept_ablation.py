"""Concept Ablation's two terms on numbers small enough to do by hand."""

import pytest
import torch
from raising import raises_error

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.concept_ablation import CA
from expunge.methods.f_divergence import FDMU

EPS = {"grumpy cat": 3.0, "cat": 1.0}


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


def batch() -> Batch:
    x = Noised(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond("grumpy cat"), ("p",), torch.full((1, 1, 2, 2), 0.25))
    return Batch(0, cond("grumpy cat"), cond(""), {"anchor_pictures": x, "anchor": cond("cat")})


MODELS = Models(student=network(0.5), reference=network(0.0))  # the student says 3.5 of the concept and 1.5 of the anchor


@pytest.mark.parametrize(("goal_by", "expected"), [("student", (3.5 - 1.5) ** 2), ("reference", (3.5 - 1.0) ** 2)])
def test_the_goal_is_the_prediction_under_the_anchor(goal_by: str, expected: float):
    terms = CA(goal_by=goal_by, prior_weight=0.0)(MODELS, batch())
    assert {k: v.item() for k, v in terms.items()} == {"forget": expected}


def test_the_second_term_denoises_the_anchors_pictures_under_the_anchors_prompts():
    assert CA(prior_weight=2.0)(MODELS, batch())["prior"].item() == 2.0 * (1.5 - 0.25) ** 2


def test_gradient_reaches_the_anchors_prediction_through_the_second_term_alone():
    """Of the first, 2 (3 - 1) goes to the concept; of the second, 2 (1 - 0.25) to the anchor. Without it the anchor is not held."""
    said = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in EPS.items()}
    student = lambda point: torch.stack([said[key].expand(1, 2, 2) for key in point.cond.keys])  # noqa: E731
    terms = CA()(Models(student, network(0.0)), batch())
    slopes = {name: torch.autograd.grad(term, list(said.values()), retain_graph=True) for name, term in terms.items()}
    assert slopes["forget"][0].item() == 2 * (3 - 1)
    assert slopes["forget"][1].item() == 0
    assert slopes["prior"][0].item() == 0
    assert slopes["prior"][1].item() == 2 * (1 - 0.25)


def test_by_the_untouched_model_and_without_the_second_term_it_is_f_dmu_by_kl():
    ours = CA(goal_by="reference", prior_weight=0.0)
    assert ours(MODELS, batch()) == FDMU(divergence="kl")(MODELS, batch())
    assert ours.needs == FDMU().needs


def test_it_reads_no_picture_but_the_anchors():
    assert CA().needs == {"anchor_pictures", "anchor"}
    with raises_error("undeclared-need", "anchor_pictures", "`needs`"):
        CA()(MODELS, Batch(0, cond("grumpy cat"), cond(""), {"anchor": cond("cat")}))
