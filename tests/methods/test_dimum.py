"""DiMUM's loss on numbers small enough to do by hand."""

import pytest
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.dimum import DiMUM

SAID = {"a disc": 0.75, "a square": 0.0, "a ring": 2.0}


def cond(*keys: str) -> Cond:
    return Cond(torch.zeros(len(keys), 2, 4), keys)


def noised(name: str, noise: float, *prompts: str) -> Noised:
    latents, keys = torch.zeros(len(prompts), 1, 2, 2), tuple(f"{name}/{i}" for i in range(len(prompts)))
    return Noised(latents, torch.full((len(prompts),), 5), cond(*prompts), keys, latents + noise)


class Student:
    """Predicts its prompt's number, and counts how often it is called."""

    calls = 0

    def __call__(self, point):
        self.calls += 1
        return torch.stack([torch.full((1, 2, 2), SAID[k]) for k in point.cond.keys])


def refused(point):
    raise AssertionError("DiMUM has no teacher")


# Two retained pictures whose noise is 0.25, one of another thing under the concept's prompt, whose noise is 0.5.
BATCH = Batch(0, cond("a ring"), cond(""), {"retain": noised("r", 0.25, "a disc", "a square"), "surrogate": noised("s", 0.5, "a ring")})


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_both_terms_are_the_error_of_the_true_noise(weight):
    terms = DiMUM(memo_weight=weight)(Models(Student(), refused), BATCH)
    assert terms["retain"].item() == ((0.75 - 0.25) ** 2 + (0.0 - 0.25) ** 2) / 2
    assert terms["memo"].item() == weight * (2.0 - 0.5) ** 2  # the mean over its own points, not over all three


def test_both_parts_are_one_call_and_no_teacher_is_asked():
    student = Student()
    DiMUM()(Models(student, refused), BATCH)
    assert student.calls == 1
    assert "reference" not in DiMUM().needs


def test_the_default_trains_cross_attention_in_whitened_steps_to_a_mean():
    assert (DiMUM().scope.name, DiMUM.training.whiten > 0, DiMUM.training.ema > 0) == ("xattn", True, True)


def test_rows_of_a_concatenation_stay_what_they_were():
    a, b = noised("r", 0.25, "a disc", "a square"), noised("s", 0.5, "a ring")
    both = Noised.cat([a, b])
    assert both.keys == ("r/0", "r/1", "s/0")
    assert both.cond.keys == ("a disc", "a square", "a ring")
    assert torch.equal(both.goal, torch.cat([a.goal, b.goal]))
    assert (len(both), both.x_t.shape, both.t.shape) == (3, (3, 1, 2, 2), (3,))
