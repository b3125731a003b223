"""MiM-PID's maps and its loss on numbers small enough to do by hand."""

import pytest
import torch
from raising import raises_error

from expunge.diffusion.batch import Batch
from expunge.diffusion.decomposition import information, redrawn, shares, smoothed
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import Discrete, Flow
from expunge.diffusion.types import Cond, Noised
from expunge.methods.mim_pid import MiMPID

# Two channels, two places, that the prompts move from the context's 0: the concept both, its sibling the second alone.
SAID = {"ring": [[[2.0, 2.0]], [[0.0, 2.0]]], "": [[[0.0, 0.0]], [[0.0, 0.0]]], "disc": [[[0.0, 2.0]], [[0.0, -2.0]]]}


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def network(offset: float):
    return lambda point: torch.stack([torch.tensor(SAID[k]) + offset for k in point.cond.keys])


X = Noised(torch.zeros(1, 2, 1, 2), torch.tensor([0]), cond("ring"), ("p",), torch.zeros(1, 2, 1, 2))
BATCH = Batch(0, cond("ring"), cond(""), {"forget": X, "context": cond(""), "sibling": cond("disc")})
PLAIN = {"smooth": 0, "draws": 1, "delta": 0.0}


def loss(offset: float = 0.0, **settings) -> dict[str, float]:
    method = MiMPID(**PLAIN | settings)
    models = Models(network(offset), network(0.0), path=Discrete(torch.tensor([0.5])))
    notes = method.prepare(models, lambda step: BATCH)
    terms = method(Models(network(offset), network(0.0), notes=notes, path=models.path), BATCH)
    return {k: v.item() for k, v in (terms | notes).items()}


def test_information_is_half_the_squared_difference_over_channels():
    maps = information(network(0.0)(X.given(cond(""))), network(0.0)(X))
    assert maps.tolist() == [[[[0.5 * 4, 0.5 * (4 + 4)]]]]


def test_shares_are_what_one_prompt_gives_alone_and_what_both_give():
    target, other = torch.tensor([[[[4.0, 4.0, 1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0, 9.0, 9.0]]]])
    alone, both = shares(target, other, 0.0)
    assert alone.flatten().tolist() == [1.0, 0.75, 0.0, 0.0]
    assert both.flatten().tolist() == [0.0, 0.25, 1.0, 0.0]
    # delta times the mean 2.25 beside each.
    torch.testing.assert_close(sum(shares(target, other, 1.0)).flatten(), torch.tensor([4 / 6.25, 4 / 6.25, 1 / 3.25, 0.0]))


def test_nothing_said_is_nothing_to_share():
    alone, both = shares(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0.0)
    assert torch.equal(alone + both, torch.zeros(1, 1, 2, 2))


def test_smoothing_is_a_mean_over_what_there_is():
    maps = torch.tensor([[[[9.0, 0.0, 0.0]]]])
    assert smoothed(maps, 1).flatten().tolist() == [4.5, 3.0, 0.0]
    assert torch.equal(smoothed(maps, 0), maps)


@pytest.mark.parametrize("path", [Discrete(), Discrete(predicts="v_prediction"), Flow()], ids=["epsilon", "v", "flow"])
def test_redrawn_points_are_the_same_pictures_under_other_noise(path):
    x_0, noise, t = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4), torch.tensor([0.0, 500.0, 999.0])
    given, keys = Cond(torch.zeros(3, 2, 4), ("a", "b", "c")), ("i", "j", "k")
    x = Noised(path.add_noise(x_0, noise, t), t, given, keys, path.goal(x_0, noise, t))
    again = redrawn(x, path, 1)
    torch.testing.assert_close(path.x_0(again.goal, again.x_t, t), x_0, rtol=1e-3, atol=1e-4)
    assert not torch.equal(again.goal, x.goal)
    assert torch.equal(redrawn(x, path, 1).goal, again.goal)
    assert not torch.equal(redrawn(x, path, 2).goal, again.goal)
    assert again.keys == ("i~1", "j~1", "k~1")  # or the reference would remember one for the other
    assert redrawn(x, path, 0) is x


def test_only_what_is_the_concepts_own_is_pressed():
    """The first place is the concept's own (W 1), the second is the sibling's as well (W 0): the mean is 1/2, so s is 2.

    The goal is the context at the first place. The student says 2 and 0 there: 4 of four numbers' squared error.
    """
    assert loss(floor=0.0) == pytest.approx({"forget": 2 * 4 / 4, "lock": 0.0, "scale": 2.0, "unique": 0.5, "shared": 0.5})


@pytest.mark.parametrize(
    ("rho", "missed"),
    [
        (0.0, 4 + 0 + 4 + 4),  # the context: all of what the concept adds
        (1.0, 4 + 0 + 0 + 16),  # the sibling, which says 0, 2 and 0, -2
        (0.5, 4 + 0 + 1 + 9),  # half way: 0, 1 and 0, -1
        ("auto", 4 + 0 + 0 + 16),  # the context where the concept is alone, the sibling where it is not
    ],
)
def test_the_goal_lies_between_the_context_and_the_sibling(rho, missed):
    assert loss(floor=1.0, rho=rho)["forget"] == pytest.approx(missed / 4)


def test_the_floor_is_the_least_that_a_place_counts():
    """W is 1 and 1/2, its mean 3/4; missed are 4 at the first place and 16 at the second."""
    assert loss(floor=0.5)["forget"] == pytest.approx((1 * 4 + 0.5 * 16) / 4 / 0.75)


def test_the_lock_holds_the_siblings_prediction():
    assert loss(0.5, lock=3.0)["lock"] == pytest.approx(3 * 0.25)
    assert "lock" not in loss(lock=0.0)


def test_maps_are_means_over_draws():
    """Constant predictions are the same under any noise."""
    assert loss(draws=3) == pytest.approx(loss(draws=1))


def test_a_sibling_is_declared():
    with raises_error("undeclared-need", "sibling", "`needs`"):
        MiMPID()(Models(network(0.0), network(0.0)), Batch(0, cond("ring"), cond(""), {"forget": X, "context": cond("")}))
