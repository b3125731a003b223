"""ESD's loss on numbers small enough to do by hand, and in the paper's convention of eta."""

import pytest
import torch

from expunge.methods import ESD
from expunge.types import Batch, Cond, Models, Point

EPS = {"van gogh": 3.0, "": 1.0}


def network(offset: float):
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
def test_the_goal_is_past_the_unconditional_prediction(eta):
    null = Cond(torch.zeros(1, 2, 4), ("",))
    x = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), Cond(torch.zeros(1, 2, 4), ("van gogh",)), ("p",))
    terms = ESD(negative_guidance=eta)(Models(network(0.5), network(0.0)), Batch(0, x.cond, null, {"trajectory": x}))
    # eps_* says 1 without the concept and 3 with it: the goal is 1 - eta (3 - 1), the student says 3.5.
    assert terms["forget"].item() == pytest.approx((3.5 - (1 - eta * 2)) ** 2)


def test_the_default_forgets():
    """Peers ship a default of zero guidance and one iteration, which does nothing."""
    assert ESD().negative_guidance > 0
    assert ESD.training.steps > 1
