"""Selective Amnesia's terms and its Fisher information on predictions linear in two weights."""

import pytest
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.selective_amnesia import SA

V = {"a disc": (1.0, 0.0), "a square": (1.0, 1.0), "a ring": (0.0, 1.0)}
"""The student says w . V of a prompt."""


def cond(*keys: str) -> Cond:
    return Cond(torch.zeros(len(keys), 2, 4), keys)


def noised(name: str, noise: tuple[float, ...], *prompts: str) -> Noised:
    latents, keys = torch.zeros(len(prompts), 1, 2, 2), tuple(f"{name}/{i}" for i in range(len(prompts)))
    return Noised(latents, torch.full((len(prompts),), 5), cond(*prompts), keys, torch.tensor(noise)[:, None, None, None] + latents)


class World:
    """Two weights, here (1, 2); the student counts its calls."""

    def __init__(self, *values: float):
        self.w, self.asked = torch.tensor(values, requires_grad=True), []

    def models(self, **settings) -> Models:
        return Models(self.student, refused, weights={"w": self.w}, **settings)

    def student(self, point):
        self.asked.append(point)
        return torch.stack([(self.w * torch.tensor(V[k])).sum().expand(1, 2, 2) for k in point.cond.keys])


def refused(point):
    raise AssertionError("it has no teacher")


# At w = (1, 2): a disc is 1 too large, a square 1 too small (3 for 4), and the ring 0.5 too large.
RETAIN, SURROGATE = noised("r", (0.0, 4.0), "a disc", "a square"), noised("s", (1.5,), "a ring")
BATCH = Batch(0, cond("a ring"), cond(""), {"retain": RETAIN, "surrogate": SURROGATE})


def test_fisher_is_the_mean_of_each_points_squared_gradient_not_the_square_of_their_mean():
    """The points' gradients are (1, 0) and (-1, -1) times a constant: squares (1, 0) + (1, 1), scaled to mean 1.

    A batch's gradient is (0, -1), which would leave the first weight free although both points need it.
    """
    [(name, fisher)] = SA().prepare(World(1.0, 2.0).models(), lambda step: BATCH).items()
    assert name == "fisher.w"
    assert fisher.tolist() == pytest.approx([4 / 3, 2 / 3])


def test_fisher_sees_every_point_of_the_bank_once_and_no_more_than_asked_for():
    """Bug 17 of the peers: a loader made anew for each step, which shows some pictures often and some never."""
    bank = [f"r/{i}" for i in range(5)]

    def batches(step: int) -> Batch:
        start = step * 2
        picked = [bank[(start + i) % 5] for i in range(2)]
        x = noised("r", (0.0, 4.0), "a disc", "a square")
        return Batch(step, cond("a ring"), cond(""), {"retain": Noised(x.x_t, x.t, x.cond, tuple(picked), x.goal)})

    for asked, seen in ((512, 5), (3, 3)):
        world = World(1.0, 2.0)
        SA(fisher_points=asked).prepare(world.models(), batches)
        keys = [key for point in world.asked for key in point.keys]
        assert len(keys) == len(set(keys)) == seen
        assert world.w.grad is None


def test_a_network_without_slope_has_no_fisher():
    world = World(0.0, 4.0)  # a disc 0 and a square 4, as wanted
    assert SA().prepare(world.models(), lambda step: BATCH)["fisher.w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("replay", "ewc"), [(1.0, 0.1), (3.0, 50.0)])
def test_the_three_terms(replay, ewc):
    models = World(1.0, 2.0).models(initial={"w": torch.tensor([0.0, 1.5])}, notes={"fisher.w": torch.tensor([0.5, 1.5])})
    terms = {k: v.item() for k, v in SA(replay_weight=replay, ewc_weight=ewc)(models, BATCH).items()}
    assert terms["surrogate"] == pytest.approx((2.0 - 1.5) ** 2)
    assert terms["retain"] == pytest.approx(replay * ((1.0 - 0.0) ** 2 + (3.0 - 4.0) ** 2) / 2)
    assert terms["ewc"] == pytest.approx(ewc / 2 * (0.5 * 1.0**2 + 1.5 * 0.5**2))


def test_what_has_no_weight_costs_nothing():
    world = World(1.0, 2.0)
    method = SA(replay_weight=0.0, ewc_weight=0.0)
    assert method.prepare(world.models(), lambda step: BATCH) == {}
    assert set(method(world.models(), BATCH)) == {"surrogate"}
    assert [p.keys for p in world.asked] == [SURROGATE.keys]
    assert method.needs == {"surrogate"}
    assert SA(replay_weight=0.0).needs == {"surrogate", "retain"}
