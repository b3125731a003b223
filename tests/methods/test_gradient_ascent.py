"""Gradient ascent's loss on numbers small enough to do by hand, and what bounds it."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.base import Training
from expunge.methods.gradient_ascent import GradientAscent
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

EPS = {"gun": 3.0, "rose": 1.0}


def student(point: Noised) -> torch.Tensor:
    return torch.stack([torch.full((1, 2, 2), EPS[k]) for k in point.cond.keys])


def noised(key: str, noise: float) -> Noised:
    cond = Cond(torch.zeros(1, 2, 4), (key,))
    return Noised(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond, ("p",), torch.full((1, 1, 2, 2), noise))


def batch() -> Batch:
    x = noised("gun", 2.5)
    return Batch(0, x.cond, x.cond, {"forget": x, "retain": noised("rose", 0.0)})


def test_the_concept_is_denoised_badly_and_the_rest_well():
    terms = GradientAscent(retain_weight=0.5)(Models(student, student), batch())
    assert {k: v.item() for k, v in terms.items()} == {"forget": -((3.0 - 2.5) ** 2), "retain": 0.5 * 1.0**2}


def test_without_its_weight_the_rest_is_not_looked_at():
    method = GradientAscent(retain_weight=0.0)
    assert method.needs == {"forget"}
    assert set(method(Models(student, student), batch())) == {"forget"}
    assert GradientAscent().needs == {"forget", "retain"}


@pytest.mark.parametrize("max_grad_norm", [1.0, 1e9])
def test_the_steps_bound_it_and_not_the_norm(max_grad_norm: float):
    """Nothing else does: the loss falls without end. Adam moves no number by more than about lr a step, however steep the loss."""
    method, training = GradientAscent(), Training(**tiny.TRAINING | {"max_grad_norm": max_grad_norm, "schedule": "constant"})
    model = tiny.model()
    made = gather(tiny.session(model), tiny.concept(), method.needs, training, 0)
    trainer = Trainer(tiny.session(model), method, training, made, TrainState(model, method.scope))
    list(trainer.fit())
    far = max((w - trainer.state.initial[n]).abs().max().item() for n, w in trainer.state.trained.items())
    assert 0.5 * training.lr < far < 1.5 * training.lr * training.steps


def test_the_default_takes_few_and_small_steps():
    assert GradientAscent.training.steps * GradientAscent.training.lr <= 1.5e-2
