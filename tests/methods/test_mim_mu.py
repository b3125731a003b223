"""MiM-MU's loss on numbers small enough to do by hand."""

import pytest
import torch
from raising import raises_error

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised, Point
from expunge.methods.esd import ESD
from expunge.methods.mim_mu import MiMMU

CONDITIONS = {"ring": 3.0, "": 1.0, "context": 2.0, "marginal": -1.0}


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), CONDITIONS[k] + offset) for k in point.cond.keys])


def batch(**parts) -> Batch:
    latents = torch.zeros(1, 1, 2, 2)
    x = Noised(latents, torch.tensor([5]), cond("ring"), ("p",), latents)
    return Batch(0, cond("ring"), cond(""), {"forget": x, "context": cond("context"), "marginal": cond("marginal")} | parts)


MODELS = Models(student=network(0.5), reference=network(0.0))  # the student says 3.5 of "ring" and 1.5 of ""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"target_as": "null"}, (3.5 - 1.0) ** 2),
        ({"target_as": "context"}, (3.5 - 2.0) ** 2),
        ({"target_as": "marginal"}, (3.5 + 1.0) ** 2),
        # target = 1 - 0.5 (3 - 1) = 0
        ({"target_as": "null", "eta": 0.5}, 3.5**2),
    ],
)
def test_the_student_is_drawn_to_the_reference_without_the_concept(settings, expected):
    terms = MiMMU(**{"lock": 0.0, "eta": 0.0} | settings)(MODELS, batch())
    assert {k: v.item() for k, v in terms.items()} == {"forget": expected}


@pytest.mark.parametrize("target_as", ["null", "context", "marginal"])
def test_lock_holds_the_prediction_that_the_concept_is_drawn_to(target_as):
    terms = MiMMU(target_as=target_as, lock=2.0)(MODELS, batch())
    assert terms["lock"].item() == pytest.approx(2.0 * 0.5**2)  # the student is off by 0.5 under whatever prompt


def test_null_lock_holds_the_unprompted_prediction():
    terms = MiMMU(target_as="null", lock=0.0, null_lock=2.0)(MODELS, batch())
    assert terms["null_lock"].item() == pytest.approx(2.0 * 0.5**2)
    assert terms["null_lock"] == MiMMU(target_as="null", lock=2.0)(MODELS, batch())["lock"]


def test_with_the_null_target_eta_is_esds_negative_guidance():
    x = batch().forget
    as_trajectory = Point(x.x_t, x.t, x.cond, x.keys)
    ours = MiMMU(target_as="null", eta=0.7)(MODELS, batch())["forget"]
    assert ours == ESD(surrogate="null", negative_guidance=0.7)(MODELS, batch(trajectory=as_trajectory))["forget"]


@pytest.mark.parametrize("target_as", ["null", "context", "marginal"])
def test_only_the_chosen_target_is_needed(target_as):
    method = MiMMU(target_as=target_as)
    assert method.needs == {"forget", "reference"} | ({target_as} - {"null"})
    with raises_error("undeclared-need", "forget", "`needs`"):
        method(MODELS, Batch(0, cond("ring"), cond(""), {}))
