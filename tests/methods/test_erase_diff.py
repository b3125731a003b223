"""EraseDiff's step on two weights and predictions linear in them, and what its network calls are for."""

from dataclasses import replace

import pytest
import tiny
import torch
from torch.nn import functional as F

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods import METHODS
from expunge.methods.base import Training
from expunge.methods.erase_diff import EraseDiff
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

V = {"ring": (1.0, 0.0), "disc": (-1.0, 1.0)}
"""The student says w . V of a prompt."""


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def noised(key: str, noise: float) -> Noised:
    latents = torch.randn(1, 1, 2, 2)
    return Noised(latents, torch.tensor([5]), cond(key), (f"{key}/0",), torch.full((1, 1, 2, 2), noise))


def step(w: tuple[float, float], noise: float, eta: float, goal: float = 1.0):
    """The terms, and the gradient of their sum."""
    weight, asked = torch.tensor(w, requires_grad=True), []

    def student(point):
        asked.append(point)
        return torch.stack([(weight * torch.tensor(V[k])).sum().expand(1, 2, 2) for k in point.cond.keys])

    def reference(point):
        asked.append(point)
        return torch.full((1, 1, 2, 2), goal)

    x, kept = noised("ring", 9.0), noised("disc", noise)
    batch = Batch(0, cond("ring"), cond(""), {"forget": x, "retain": kept, "marginal": cond("marginal")})
    terms = EraseDiff(eta=eta)(Models(student, reference, weights={"w": weight}), batch)
    [slope] = torch.autograd.grad(sum(terms.values()), [weight])
    return {k: v.item() for k, v in terms.items()}, slope, asked, batch


# At w = (2, 1): L_f = (2 - 1)^2, grad L_f = 2 (2 - 1) (1, 0) = (2, 0), whose squared norm is 4. L_r = (-1 - noise)^2.
@pytest.mark.parametrize(
    ("noise", "eta", "barrier", "slope"),
    [
        # grad L_r = 2 (-1 + 2) (-1, 1) = (-2, 2): against forgetting. lambda = 1 + 4 / 4.
        (-2.0, 1.0, 2.0, (2.0, 2.0)),
        (-2.0, 0.5, 1.5, (1.0, 2.0)),
        # grad L_r = 2 (-1 - 0.5) (-1, 1) = (3, -3): for it, and by more than eta = 1 asks, by less than 2 does.
        (0.5, 1.0, 0.0, (3.0, -3.0)),
        (0.5, 2.0, 0.5, (4.0, -3.0)),
    ],
)
def test_lambda_is_the_least_that_makes_the_concepts_loss_fall(noise, eta, barrier, slope):
    terms, found, _, _ = step((2.0, 1.0), noise, eta)
    assert terms == {"retain": (-1.0 - noise) ** 2, "forget": 1.0}
    assert found.tolist() == pytest.approx(slope)
    # To first order a step of size s changes L_f by -s <grad L_f, step>: at least eta |grad L_f|^2, and just that where it is needed.
    fall = 2.0 * found[0].item()
    assert fall == pytest.approx(eta * 4) if barrier else fall >= eta * 4


def test_where_the_concept_is_forgotten_only_keeping_is_left():
    _, found, _, _ = step((1.0, 1.0), 0.5, 1.0)  # the student says 1 of the concept, its goal: no slope, and nothing to divide by
    assert found.tolist() == pytest.approx([1.0, -1.0])  # 2 (0 - 0.5) (-1, 1)


def test_teacher_and_student_see_the_same_latents_where_the_published_code_encodes_twice():
    """Bug 16 of the peers: the picture is encoded twice, by independent draws, and the two predictions are of different x_t."""
    _, _, asked, batch = step((2.0, 1.0), 0.5, 1.0)
    forget = [p for p in asked if p.keys == batch.forget.keys]
    assert [p.cond.keys for p in forget] == [("ring",), ("marginal",)]
    assert all(p.x_t is batch.forget.x_t and p.t is batch.forget.t for p in forget)


def trainer(method, tmp_path) -> Trainer:
    model, training = tiny.model(), Training(**tiny.TRAINING)
    batches = gather(tiny.session(model, Store(tmp_path)), tiny.concept(), method.needs, training, 0)
    made = Trainer(tiny.session(model), method, training, batches, TrainState(model, method.scope))
    made.hooks.notes = method.prepare(made.models, batches)
    with torch.no_grad():  # away from the start, where factors and penalties have no slope
        for weight in made.state.trained.values():
            weight += 0.01 * torch.randn_like(weight)
    return made


def slopes(method, models: Models, batch: Batch, silenced: int | None = None) -> torch.Tensor:
    """The gradient of a step, with one of the student's calls made a constant."""
    calls = []

    def student(point):
        calls.append(point)
        said = models.student(point)
        return said.detach() + 0 * said if len(calls) - 1 == silenced else said

    loss = sum(method(replace(models, student=student), batch).values())
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(models.weights.values()))])
    if silenced is not None:
        assert silenced < len(calls)
    return found


def dead(method, models: Models, batch: Batch, calls: int) -> list[int]:
    """Those of the student's calls that the gradient does not feel."""
    whole = slopes(method, models, batch)
    return [i for i in range(calls) if torch.equal(slopes(method, models, batch, i), whole)]


class Published(EraseDiff):
    """The released code's step: an inner loop of two, of which only a constant comes out, and a fixed lambda."""

    def __call__(self, models, batch):
        x, kept = batch.forget, batch.retain
        goal = models.reference(x.given(batch.marginal))
        inner = sum(F.mse_loss(models.student(x), goal) for _ in range(2)) / 2
        difference = F.mse_loss(models.student(x), goal) - inner.detach()
        return {"retain": F.mse_loss(models.student(kept), kept.goal), "forget": 0.1 * difference}


@pytest.mark.parametrize(("name", "calls"), [("erase-diff", 2), ("spm", 1), ("selective-amnesia", 2)])
def test_no_call_of_the_network_is_dead(name, calls, tmp_path):
    method = METHODS[name]()
    made = trainer(method, tmp_path)
    assert dead(method, made.models, made.batches(0), calls) == []


def test_the_published_inner_loop_is_dead(tmp_path):
    """Bug 18 of the peers, which the check above would find."""
    made = trainer(EraseDiff(), tmp_path)
    assert dead(Published(), made.models, made.batches(0), 4) == [0, 1]


def test_the_gradient_is_that_of_both_losses(tmp_path):
    """The terms know their slopes and lead through no network; they are those of L_r + lambda L_f, lambda worked out on its own."""
    method = EraseDiff()
    made = trainer(method, tmp_path)
    models, batch = made.models, made.batches(0)
    x, kept, weights = batch.forget, batch.retain, list(models.weights.values())
    forget = F.mse_loss(models.student(x), models.reference(x.given(batch.marginal)))
    retain = F.mse_loss(models.student(kept), kept.goal)
    f, r = (torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]) for loss in (forget, retain))
    found = slopes(method, models, batch)
    torch.testing.assert_close(found, r + max(0.0, 1.0 - (f @ r / (f @ f)).item()) * f, rtol=1e-3, atol=1e-6)
    assert (f @ found).item() >= (1 - 1e-3) * (f @ f).item()
