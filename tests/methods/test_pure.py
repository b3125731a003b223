"""PURE's loss and its dual variable on numbers small enough to do by hand."""

import math

import pytest
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import Discrete
from expunge.diffusion.types import Cond, Noised
from expunge.methods.pure import PURE

HORIZON = torch.ones(1000)


def cond(*keys: str) -> Cond:
    return Cond(torch.zeros(len(keys), 2, 4), keys)


def noised(name: str, prompt: str, *times: int) -> Noised:
    latents, keys = torch.zeros(len(times), 1, 2, 2), tuple(f"{name}/{i}" for i in range(len(times)))
    return Noised(latents, torch.tensor(times), cond(*[prompt] * len(times)), keys, latents + 1.0)


def network(ring, disc):
    says = {"a ring": ring, "a disc": disc}
    return lambda point: torch.stack([says[k] + torch.zeros(1, 2, 2) for k in point.cond.keys])


def batch(step: int, times=(5, 5)) -> Batch:
    return Batch(step, cond("a ring"), cond(""), {"forget": noised("f", "a ring", *times), "retain": noised("r", "a disc", 5, 5)})


def models(student, gamma: float = 2.0) -> Models:
    # The reference says 0.5 of either, where the noise is 1: e_* = 0.25.
    return Models(student, network(0.5, 0.5), notes={"gamma": torch.tensor(gamma)}, path=Discrete(HORIZON))


@pytest.mark.parametrize("beta", [0.5, 4.0, 100.0])
def test_the_preference_is_a_softplus_of_how_much_worse_the_student_is(beta):
    """The student says 0 of the concept: e = 1, so it is worse by 0.75."""
    terms = PURE(beta=beta, forget_until=1.0)(models(network(0.0, 0.6)), batch(0))
    assert terms["forget"].item() == pytest.approx(2 / beta * math.log1p(math.exp(-beta * 0.75)), rel=1e-5)


def slope(beta: float, said: float) -> float:
    ring = torch.tensor(said, requires_grad=True)
    PURE(beta=beta, forget_until=1.0)(models(network(ring, 0.5)), batch(0))["forget"].backward()
    return ring.grad.item()


def test_it_climbs_and_lets_go():
    """The gradient is -2 sigmoid(-beta (e - e_*)) de: at the start that of -e, far off none. Plain ascent never lets go."""
    de = 2 * (0.5 - 1)
    assert slope(100.0, 0.5) == pytest.approx(-de)
    assert abs(slope(100.0, 0.0)) < 1e-20
    assert slope(1e-4, 0.0) == pytest.approx(-2 * (0 - 1), rel=1e-3)


def test_points_that_are_nearly_noise_are_not_seen():
    """Two of four within, and two expected of four at a half: the mean is that of the two. A batch in parts has the same mean."""
    method, given = PURE(beta=4.0, forget_until=0.5), models(network(0.0, 0.5))
    expected = 2 / 4 * math.log1p(math.exp(-4 * 0.75))
    assert method(given, batch(0, (1, 499, 500, 999)))["forget"].item() == pytest.approx(expected)
    parts = [method(given, batch(0, times))["forget"].item() for times in ((1, 499), (500, 999))]
    assert sum(parts) / 2 == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("step", [0, 5])
def test_the_kl_is_logged_as_it_is_and_pulls_by_gamma(step, gamma):
    """Logged times gamma it would say nothing at gamma 0, and the dual variable could never rise again."""
    disc = torch.tensor(0.7, requires_grad=True)
    kl = PURE()(models(network(0.5, disc), gamma), batch(step))["kl"]
    assert kl.item() == pytest.approx(0.2**2)
    kl.backward()
    assert disc.grad.item() == pytest.approx(gamma * 2 * 0.2)


def test_a_repair_step_denoises_what_is_retained():
    terms = PURE(forget_steps=2, repair_steps=1)(models(network(0.0, 0.7)), batch(2))
    assert terms.keys() == {"repair", "kl"}
    assert terms["repair"].item() == pytest.approx(0.3**2)


def test_gamma_rises_above_the_budget_falls_below_it_and_is_never_negative():
    method = PURE(budget=0.01, dual_rate=0.5)

    def after(gamma: float, kl: float) -> float:
        return method.update({"gamma": torch.tensor(gamma)}, {"kl": kl})["gamma"].item()

    assert after(1.0, 0.03) == pytest.approx(1.0 + 0.5 * 2)
    assert after(1.0, 0.01) == pytest.approx(1.0)
    assert after(1.0, 0.0) == pytest.approx(0.5)
    assert after(0.2, 0.0) == 0.0
    assert after(0.0, 0.02) == pytest.approx(0.5)


def test_phases_alternate():
    assert [PURE(forget_steps=2, repair_steps=1).phase(i)[0] for i in range(6)] == ["f", "f", "r", "f", "f", "r"]
    assert {PURE(repair_steps=0).phase(i) for i in range(20)} == {"forget"}
