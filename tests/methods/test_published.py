"""What the presets of published settings rest on: released losses on the same points, their optimisers and their learning rates.

The formulas of the released codes are written out here and compared by gradients, which alone decide the steps.
"""

import math

import pytest
import tiny
import torch
from diffusers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup
from raising import raises_error

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.methods.base import Training
from expunge.methods.concept_ablation import CA
from expunge.methods.erase_diff import EraseDiff
from expunge.methods.esd import ESD
from expunge.methods.f_divergence import FDMU
from expunge.methods.presets import read_preset
from expunge.methods.salun import SalUn
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.optimizers import learning_rate
from expunge.training.state import TrainState

ROWS, CHANNELS, SIDE = 3, 4, 5


def cond(key: str) -> Cond:
    return Cond(torch.zeros(ROWS, 2, 4), (key,) * ROWS)


class Says:
    """A network whose prediction under each prompt is a tensor of its own."""

    def __init__(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        shape = ROWS, CHANNELS, SIDE, SIDE
        self.of = {key: torch.nn.Parameter(torch.randn(shape, generator=generator)) for key in ("grumpy cat", "cat")}

    def __call__(self, point):
        return torch.stack([self.of[key]["abc".index(row)] for row, key in zip(point.keys, point.cond.keys, strict=True)])


def given() -> Batch:
    x_t, goal = (torch.randn(ROWS, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(s)) for s in (7, 8))
    x = Noised(x_t, torch.full((ROWS,), 5.0), cond("grumpy cat"), ("a", "b", "c"), goal)
    return Batch(0, cond("grumpy cat"), cond(""), {"anchor_pictures": x, "anchor": cond("cat")})


def over_channels(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The released d: summed over channels, averaged over places, as a mask of one channel makes it."""
    mask = torch.ones(ROWS, 1, SIDE, SIDE)
    return ((a - b).square() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def slopes(loss: torch.Tensor, net: Says) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(net.of.values())))


def test_the_released_prior_of_concept_ablation_is_a_quarter_of_ours():
    net, batch = Says(0), given()
    concept, anchor = net.of["grumpy cat"], net.of["cat"]
    prior = (anchor - batch.anchor_pictures.goal).square().mean()
    released = slopes(over_channels(concept, anchor.detach()).mean() + prior, net)
    terms = CA(prior_weight=1 / CHANNELS)(Models(net, net), batch)
    for ours, theirs in zip(slopes(sum(terms.values()), net), released, strict=True):
        torch.testing.assert_close(CHANNELS * ours, theirs)


@pytest.mark.parametrize(
    ("divergence", "loss", "scale"),
    [
        ("hellinger", lambda d: -torch.exp(-d / 8), 1 / 2),
        ("chi2", lambda d: torch.exp(d), 4),
        ("kl", lambda d: d, 4),
    ],
)
def test_the_released_divergences_are_those_of_kappa_4(divergence, loss, scale):
    net, base = Says(0), Says(1)
    net.of["grumpy cat"].data = base.of["cat"].data + 0.3 * net.of["grumpy cat"].data
    goal, batch = base.of["cat"].detach(), given()
    released = torch.autograd.grad(loss(over_channels(net.of["grumpy cat"], goal)).mean(), net.of["grumpy cat"])[0]
    method, models = FDMU(divergence=divergence, kappa=4.0), Models(net, lambda point: base(point).detach())
    notes = method.prepare(models, lambda step: batch)
    terms = method(Models(net, models.reference, notes=notes), batch)
    torch.testing.assert_close(scale * torch.autograd.grad(terms["forget"], net.of["grumpy cat"])[0], released)


def test_the_limits_of_the_gradient_are_the_released_ones_in_our_scale():
    limits = {name: read_preset(f"{name}-published")["training"]["max_grad_norm"] for name in ("ca", "f-dmu")}
    assert limits == {"ca": 1 / 4, "f-dmu": "off"}  # the commands of f-DMU lack --clip_gradients


def test_the_released_lambda_is_constant_and_its_goal_the_networks_own():
    def term(**settings) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
        base = lambda point: torch.full((ROWS, 1, 1, 1), 10.0)  # noqa: E731
        said = {"grumpy cat": 0, "cat": 1}
        student = lambda point: weight[[said[key] for key in point.cond.keys]].reshape(-1, 1, 1, 1)  # noqa: E731
        x = Noised(torch.zeros(ROWS, 1, 1, 1), torch.zeros(ROWS), cond("grumpy cat"), ("a", "b", "c"), torch.zeros(ROWS, 1, 1, 1))
        batch = Batch(0, x.cond, cond(""), {"forget": x, "retain": x.given(cond("cat")), "marginal": cond("cat")})
        terms = EraseDiff(**settings)(Models(student, base, weights={"w": weight}), batch)
        return torch.autograd.grad(sum(terms.values()), weight)[0]

    # grad L_f = 2 (w_0 - goal) on w_0, grad L_r = 2 w_1 on w_1.
    assert term(multiplier=1.0, goal_by="student").tolist() == [2 * (2 - 3), 2 * 3]
    assert term(multiplier=0.5).tolist() == [0.5 * 2 * (2 - 10), 2 * 3]
    assert EraseDiff(goal_by="student").needs == {"forget", "marginal", "retain"}


def test_the_released_mask_ranks_the_whole_network():
    settings = read_preset("salun-published")["method"]
    model = tiny.model()
    trained = model.scope(SalUn(variant=settings["variant"]).scope)
    assert trained.keys() == dict(model.network.named_parameters()).keys()
    assert settings["share"] == 0.5


# --- steps --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cycles", [None, 1, 3])
def test_the_learning_rate_is_that_of_diffusers(cycles):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, 10, 100, cycles or 1)
    ours = Training(lr=1.0, steps=100, warmup=10, cycles=cycles)
    for step in range(100):
        assert learning_rate(ours, step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def trainer(**training) -> Trainer:
    settings = Training(**tiny.TRAINING | {"steps": 1, "lr": 1e-2, "schedule": "constant"} | training)
    method, session = FDMU(divergence="kl"), tiny.session(cache=Store.default())
    batches = gather(session, tiny.concept(), method.needs, settings, 0)
    return Trainer(session, method, settings, batches, TrainState(session.model, method.scope))


def test_weight_decay_shrinks_the_weights_beside_adams_step():
    ends = {}
    for decay in (None, 0.1):
        made = trainer(weight_decay=decay)
        before = {name: p.detach().clone() for name, p in made.state.trained.items()}
        list(made.fit())
        ends[decay] = {name: p.detach() - before[name] for name, p in made.state.trained.items()}
    for name, first in before.items():
        torch.testing.assert_close(ends[0.1][name] - ends[None][name], -1e-2 * 0.1 * first, atol=1e-7, rtol=1e-4)


def test_without_a_limit_the_gradient_is_as_it_was():
    norms = [next(iter(trainer(max_grad_norm=limit).fit())).grad_norm for limit in ("off", 1e9)]
    assert norms[0] == norms[1] > 0
    assert math.isfinite(norms[0])


def test_settings_that_do_not_go_together_are_refused():
    with raises_error("warmup-too-long", 120, "below 120"):
        Training(steps=120, warmup=120)
    with raises_error("cycles-of-constant", 3, "schedule cosine"):
        Training(schedule="constant", cycles=3)
    with raises_error("decay-and-whitening", 0.1, "--whiten 0"):
        Training(weight_decay=0.1, whiten=1e-3)
    masked = SalUn(variant="xattn", mask_batches=1)
    settings = Training(**tiny.TRAINING | {"weight_decay": 0.1})
    session = tiny.session(cache=Store.default())
    made = gather(session, tiny.concept(), masked.needs, settings, 0)
    with raises_error("mask-and-decay", 0.1, "without weight decay"):
        list(Trainer(session, masked, settings, made, TrainState(session.model, masked.scope)).fit())


# --- the trajectories of the surrogate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("surrogate", ["marginal", "context", "null"])
def test_trajectories_of_the_surrogate_are_sampled_with_its_prompt(surrogate, tmp_path):
    """The reference's prediction that sampling took at a point is the one under the surrogate's prompt."""
    method, model = ESD(surrogate=surrogate, erase_from="surrogate"), tiny.model()
    made = gather(tiny.session(model, Store(tmp_path)), tiny.concept(), method.needs, Training(**tiny.TRAINING), 0)
    batch = made(0)
    x = batch.surrogate_trajectory
    source = x.given(batch.null if surrogate == "null" else getattr(batch, surrogate))
    known = torch.stack([made.references.rows[key] for key in zip(source.keys, source.cond.keys, strict=True)])
    torch.testing.assert_close(known, model.predict(source), atol=1e-4, rtol=1e-3)
