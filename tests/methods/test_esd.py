"""ESD's loss on numbers small enough to do by hand, and in the paper's convention of eta."""

import pytest
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Point
from expunge.methods.esd import ESD

EPS = {"a barn in van gogh": 3.0, "": 1.0, "a barn": 0.5, "a barn in monet": 2.0}


def network(offset: float):
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
def test_the_goal_is_past_the_unconditional_prediction(eta):
    null = Cond(torch.zeros(1, 2, 4), ("",))
    x = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), Cond(torch.zeros(1, 2, 4), ("a barn in van gogh",)), ("p",))
    terms = ESD(negative_guidance=eta, surrogate="null")(Models(network(0.5), network(0.0)), Batch(0, x.cond, null, {"trajectory": x}))
    # eps_* says 1 without the concept and 3 with it: the goal is 1 - eta (3 - 1), the student says 3.5.
    assert terms["forget"].item() == pytest.approx((3.5 - (1 - eta * 2)) ** 2)


@pytest.mark.parametrize(("surrogate", "start"), [("null", 1.0), ("context", 0.5), ("marginal", 2.0)])
def test_the_push_starts_from_the_chosen_prompt(surrogate, start):
    conds = {key: Cond(torch.zeros(1, 2, 4), (key,)) for key in EPS}
    x = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), conds["a barn in van gogh"], ("p",))
    parts = {"trajectory": x, "context": conds["a barn"], "marginal": conds["a barn in monet"]}
    method = ESD(negative_guidance=1.5, surrogate=surrogate)
    assert method.needs == {"trajectory", "reference"} | ({surrogate} - {"null"})
    terms = method(Models(network(0.5), network(0.0)), Batch(0, x.cond, conds[""], {n: parts[n] for n in method.needs - {"reference"}}))
    # What is pushed away is the guidance of the prompt, 3 - 1, wherever the push starts.
    assert terms["forget"].item() == pytest.approx((3.5 - (start - 1.5 * 2)) ** 2)


@pytest.mark.parametrize(("surrogate", "start"), [("null", 1.0), ("context", 0.5), ("marginal", 2.0)])
def test_erased_from_the_surrogate_the_student_is_given_the_surrogate(surrogate, start):
    """As in the released code: its own prompt is the one that is trained, and the one that samples the points."""
    conds = {key: Cond(torch.zeros(1, 2, 4), (key,)) for key in EPS}
    x = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), conds["a barn in van gogh"], ("p",))
    parts = {"surrogate_trajectory": x, "context": conds["a barn"], "marginal": conds["a barn in monet"]}
    method = ESD(negative_guidance=1.5, surrogate=surrogate, erase_from="surrogate")
    assert method.needs == {"surrogate_trajectory", "reference"} | ({surrogate} - {"null"})
    terms = method(Models(network(0.5), network(0.0)), Batch(0, x.cond, conds[""], {n: parts[n] for n in method.needs - {"reference"}}))
    # The student says 0.5 more than the base model under the surrogate, whose goal is start - 1.5 (3 - 1).
    assert terms["forget"].item() == pytest.approx((start + 0.5 - (start - 1.5 * 2)) ** 2)


def test_the_released_code_without_a_prompt_to_erase_from_is_the_paper_with_eta_less_by_one():
    """|| eps_theta(c) - [ eps_*(c) - n (eps_*(c) - eps_*("")) ] ||^2 with n = eta + 1."""
    null, concept = EPS[""], EPS["a barn in van gogh"]
    released = (concept + 0.5 - (concept - 2.0 * (concept - null))) ** 2
    x = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), Cond(torch.zeros(1, 2, 4), ("a barn in van gogh",)), ("p",))
    batch = Batch(0, x.cond, Cond(torch.zeros(1, 2, 4), ("",)), {"trajectory": x})
    assert ESD(surrogate="null")(Models(network(0.5), network(0.0)), batch)["forget"].item() == pytest.approx(released)


def test_the_default_forgets():
    """Peers ship a default of zero guidance and one iteration, which does nothing."""
    assert ESD().negative_guidance > 0
    assert ESD.training.steps > 1
