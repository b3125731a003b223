"""SDD's loss on numbers small enough to do by hand, and the points that it is taken at."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Point
from expunge.methods.base import Training
from expunge.methods.sdd import SDD
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.hashing import seed_of
from expunge.training.batches import Batches, gather
from expunge.training.networks import Student

EPS = {"gun": 3.0, "": 1.0}


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), EPS[k] + offset) for k in point.cond.keys])


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def batch() -> Batch:
    z = Point(torch.zeros(1, 1, 2, 2), torch.tensor([5]), cond("gun"), ("p",))
    return Batch(0, cond("gun"), cond(""), {"trajectory": z})


@pytest.mark.parametrize("offset", [0.0, 0.5, 10.0])
def test_the_goal_is_the_students_own_unprompted_prediction(offset: float):
    """The student says 3 + offset of the concept and 1 + offset of nothing: off by 2 however far it has gone from the untouched model."""
    assert SDD()(Models(network(offset), network(0.0)), batch())["forget"].item() == 4.0


def test_no_gradient_reaches_the_goal():
    """d/dc (c - n)^2 = 2 (3 - 1); with gradient on both sides the empty prompt would come to meet the concept, which nothing undoes."""
    said = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in EPS.items()}
    student = lambda point: said[point.cond.keys[0]] * torch.ones(1, 1, 2, 2)  # noqa: E731
    SDD()(Models(student, network(0.0)), batch())["forget"].backward()
    assert said["gun"].grad.item() == 4.0
    assert said[""].grad is None


def test_the_goal_is_a_call_without_gradient_and_counts_as_one(monkeypatch):
    model = tiny.model()
    monkeypatch.setattr(model, "predict", lambda point, weights: network(0.0)(point))
    student = Student(model)
    SDD()(Models(student, network(0.0)), batch())
    assert (student.with_gradient, student.without_gradient) == (1, 1)


def test_the_result_is_the_running_mean(tmp_path):
    """Nearer to the start than the student itself, which `ema` 0 gives. The default must reach most of the way in its steps."""

    def change(ema: float) -> float:
        training = tiny.TRAINING | {"ema": ema}
        run = unlearn(tiny.model(), tiny.concept(), "sdd", training=training, out=tmp_path / f"{ema}", cache=Store(tmp_path / "store"))
        return run.card["relative_change"]

    assert 0 < change(0.5) < change(0.0)
    assert SDD.training.ema > 0
    assert SDD.training.ema**SDD.training.steps < 0.1


# --- the points -------------------------------------------------------------------------------------------------------------


def batches(tmp_path, **settings) -> Batches:
    training = Training(**{"batch_size": 16, "points": 512, "pictures": 48} | settings)
    concept = tiny.concept("neon", synonyms=("glow",))
    return gather(tiny.session(tiny.model(), Store(tmp_path)), concept, SDD().needs, training, 0)


def test_a_point_at_the_first_time_is_noise_and_not_a_finished_picture(tmp_path):
    """A released code stops its sampler after step `until - 1`, which for 0 is never: a finished picture, said to be all noise."""
    made = batches(tmp_path, points=7)  # two trajectories of four
    points, steps = made.banks["trajectory"].points, made.model.default_sampler.steps
    assert len(points) == 2 * steps
    for i in range(2):
        walk = points[slice(i * steps, (i + 1) * steps)]
        assert walk.t.argmax() == 0
        assert (walk.t.diff() < 0).all()
        torch.testing.assert_close(walk.x_t[:1], made.model.noise([seed_of(0, "trajectory", i)]).cpu())
        assert not torch.equal(walk.x_t[:1], walk.x_t[-1:])


def test_student_and_goal_look_at_the_same_place(tmp_path):
    given, seen = batches(tmp_path, points=25)(0), []

    def student(point: Point):
        seen.append(point)
        return point.x_t

    SDD()(Models(student, network(0.0)), given)
    goal, prediction = seen
    assert goal.x_t is prediction.x_t is given.trajectory.x_t
    assert goal.t is prediction.t is given.trajectory.t
    assert set(goal.cond.keys) == {""}
    assert prediction.cond.keys == given.trajectory.cond.keys


def test_every_name_of_the_concept_is_removed_and_not_the_first_alone(tmp_path):
    """A released code picks the concept by (step - 1) // steps, which is 0 from the first step to the last."""
    made = batches(tmp_path)
    prompts = [key for step in range(SDD.training.steps // 3) for key in made(step).trajectory.cond.keys]
    counts = [sum(name in prompt for prompt in prompts) for name in ("neon", "glow")]
    assert sum(counts) == len(prompts)
    assert min(counts) > 0.4 * len(prompts)
