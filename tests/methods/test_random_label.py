"""Random relabelling on numbers small enough to do by hand."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised, Point
from expunge.methods.base import Training
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.training.batches import gather

EPS = {"neon": 3.0, "ink": 1.0, "rose": -1.0}
METHODS = [RandomLabel, SalUn]


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


def noised(key: str, noise: float) -> Noised:
    return Noised(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond(key), ("p",), torch.full((1, 1, 2, 2), noise))


def batch() -> Batch:
    return Batch(0, cond("neon"), cond(""), {"forget": noised("neon", 0.0), "marginal": cond("ink"), "retain": noised("rose", 0.5)})


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_concepts_pictures_are_seen_as_another_by_the_network_itself(cls, offset: float):
    """The student is off by 3 - 1 however far it has gone; on the rest by -1 + offset - 0.5."""
    terms = cls(retain_weight=2.0)(Models(network(offset), network(0.0)), batch())
    assert {k: v.item() for k, v in terms.items()} == {"forget": 2.0**2, "retain": 2.0 * (offset - 1.5) ** 2}


@pytest.mark.parametrize("cls", METHODS)
def test_the_other_name_does_not_come_to_meet_the_concept(cls):
    said = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in EPS.items()}
    student = lambda point: torch.stack([said[key].expand(1, 2, 2) for key in point.cond.keys])  # noqa: E731
    sum(cls(retain_weight=1.0)(Models(student, network(0.0)), batch()).values()).backward()
    assert said["neon"].grad.item() == 2 * (3 - 1)
    assert said["ink"].grad is None
    assert said["rose"].grad.item() == 2 * (-1 - 0.5)


@pytest.mark.parametrize("cls", METHODS)
def test_without_its_weight_the_rest_is_not_looked_at(cls):
    method = cls(retain_weight=0.0)
    assert method.needs == {"forget", "marginal"}
    assert set(method(Models(network(0.0), network(0.0)), batch())) == {"forget"}


@pytest.mark.parametrize("cls", METHODS)
def test_student_and_goal_see_the_same_latents_and_not_two_encodings_of_a_picture(cls):
    """Released codes draw two samples of the encoder's posterior for one picture, so the two predictions differ by more than the prompt."""
    training, seen = Training(**tiny.TRAINING), []
    given = gather(tiny.session(), tiny.concept(), cls().needs, training, 0)(0)

    def student(point: Point):
        seen.append(point)
        return point.x_t

    terms = cls()(Models(student, network(0.0)), given)
    goal, both = seen
    prediction, retained = both[: len(goal)], both[len(goal) :]
    assert torch.equal(goal.x_t, prediction.x_t)
    assert torch.equal(goal.t, prediction.t)
    assert goal.keys == prediction.keys == given.forget.keys
    assert all("neon" in key for key in prediction.cond.keys)
    assert not any("neon" in key for key in (*goal.cond.keys, *retained.cond.keys))
    # This student does not read its prompt, so nothing but the latents could make the two differ.
    assert terms["forget"].item() == 0.0


@pytest.mark.parametrize("cls", METHODS)
def test_not_all_points_get_the_same_other_name(cls):
    training = Training(**tiny.TRAINING | {"points": 64})
    made = gather(tiny.session(), tiny.concept(), cls().needs, training, 0)
    assert len({made.banks["forget"].marginals[i].replace(p.context, "") for i, p in enumerate(made.banks["forget"].prompts)}) > 4
