"""SPM's loss on numbers small enough to do by hand, and the dimension of what it adds."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Point
from expunge.methods.esd import ESD
from expunge.methods.spm import SPM
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

EPS = {"ring": 3.0, "": 1.0, "context": 2.0, "anchor": 0.5, "marginal": -1.0}


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


class Recorded:
    """Predicts its prompt's number plus `offset`, and remembers where it was asked."""

    def __init__(self, offset: float):
        self.offset, self.asked = offset, []

    def __call__(self, point: Point):
        self.asked.append(point)
        return torch.stack([torch.full((1, 2, 2), EPS[k] + self.offset) for k in point.cond.keys])


def batch() -> Batch:
    x = Point(torch.randn(1, 1, 2, 2), torch.tensor([5]), cond("ring"), ("p",))
    return Batch(0, cond("ring"), cond(""), {"trajectory": x} | {k: cond(k) for k in ("context", "anchor", "marginal")})


@pytest.mark.parametrize(("surrogate", "says"), [("null", 1.0), ("context", 2.0), ("anchor", 0.5)])
@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
def test_the_goal_is_past_the_surrogate(surrogate, says, eta):
    terms = SPM(surrogate=surrogate, eta=eta)(Models(Recorded(0.5), Recorded(0.0)), batch())
    # The student says 3.5 of the concept, the untouched model 3.
    assert terms["forget"].item() == pytest.approx((3.5 - (says - eta * (3.0 - says))) ** 2)


@pytest.mark.parametrize("weight", [1.0, 1000.0])
def test_other_prompts_are_anchored(weight):
    terms = SPM(anchor_weight=weight)(Models(Recorded(0.5), Recorded(0.0)), batch())
    assert terms["anchoring"].item() == pytest.approx(weight * 0.5**2)


def test_with_the_null_surrogate_its_goal_is_esds():
    given, models = batch(), Models(Recorded(0.5), Recorded(0.0))
    assert SPM(surrogate="null", eta=0.7)(models, given)["forget"] == ESD(surrogate="null", negative_guidance=0.7)(models, given)["forget"]


def test_teacher_and_student_see_the_same_latents_where_peers_encode_twice():
    """Bug 16 of the peers: pictures are encoded twice, by independent draws, and the two networks get different x_t."""
    student, reference, given = Recorded(0.5), Recorded(0.0), batch()
    SPM(surrogate="context")(Models(student, reference), given)
    x = given.trajectory
    for point in student.asked + reference.asked:
        assert all(torch.equal(row, x.x_t[0]) for row in point.x_t)
        assert set(point.t.tolist()) == set(x.t.tolist())
        assert set(point.keys) == set(x.keys)
    assert [key for p in student.asked for key in p.cond.keys] == ["ring", "marginal"]


def test_only_what_is_read_is_needed():
    assert SPM().needs == {"trajectory", "reference", "marginal", "anchor"}
    assert SPM(surrogate="null").needs == {"trajectory", "reference", "marginal"}
    assert SPM(anchor_weight=0.0, surrogate="context").needs == {"trajectory", "reference", "context"}


@pytest.mark.parametrize("settings", [{}, {"rank": 3}, {"variant": "xattn"}])
def test_each_matrix_gets_adapters_of_that_rank(settings, tmp_path):
    model, method = tiny.model(), SPM(**settings)
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    delta = unlearn(model, tiny.concept(), method, training=tiny.TRAINING, out=tmp_path / "r", cache=Store(tmp_path / "s")).delta()
    layers = ("attn2",) if method.variant == "xattn" else ("attn1", "attn2", "ff")
    assert set(delta) == {n for n, p in before.items() if p.ndim == 2 and "transformer_blocks" in n and any(f".{k}." in n for k in layers)}
    sizes = {name: torch.linalg.svdvals((value - before[name]).double()) for name, value in delta.items()}
    assert max(s[method.rank - 1] for s in sizes.values()) > 1e-3
    assert all((s[method.rank :] < 1e-3 * s[0]).all() for s in sizes.values())
