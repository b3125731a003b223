"""What a run will cost, counted beforehand, is what it did cost."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch

from expunge.methods.base import Objective
from expunge.models.scopes import SCOPES
from expunge.runs.cost import Pace, Price, pace, price
from expunge.runs.plan import Plan, make_plan
from expunge.runs.unlearn import carry_out
from expunge.storage.cache import Store
from expunge.training.counters import counted

DENOISER = tiny.model()
TRAINING = {"steps": 3, "batch_size": 8, "points": 16, "pictures": 2}


@dataclass(frozen=True)
class Prepared(Objective):
    """Looks about before the first step, with and without gradient, and looks at the mean in each step; reads two banks."""

    needs = frozenset({"forget", "retain", "reference"})
    scope = SCOPES["xattn-lora"]

    def prepare(self, models, batches):
        x = batches(0).forget
        loss = (models.student(x) - models.reference(x)).square().mean()
        size = sum(g.abs().sum() for g in torch.autograd.grad(loss, list(models.weights.values())))
        with torch.no_grad():
            models.student(batches(-1).retain)
        return {"size": size}

    def __call__(self, models, batch):
        x = batch.forget
        drift = models.student(x) - models.ema(x)
        return {"retain": (models.student(batch.retain) - batch.retain.goal).square().mean(), "drift": drift.square().mean()}


def plan(method: str | Objective, training: dict | None = TRAINING, **settings) -> Plan:
    """2 pictures, 16 points, 3 steps of 8; the sampler takes 4 steps, each with and without the prompt."""
    return make_plan(DENOISER, tiny.concept(), method, training=training, **settings)


CASES = {
    # 24 places visited in a bank of 16: each point's marginal once.
    "marginal": (plan("mim-mu", lock=0.0, eta=0.0), Price(2 * 4 * 2, 16, 24)),
    # The lock is a second student row; what it is held to is the target, which is there already.
    "locked": (plan("mim-mu", eta=0.0), Price(16, 16, 2 * 24)),
    # The null prompt is a third student row, and a second reference at each point.
    "null locked": (plan("mim-mu", eta=0.0, null_lock=1.0), Price(16, 2 * 16, 3 * 24)),
    # eta asks for the concept's own prediction too.
    "pushed": (plan("mim-mu", lock=0.0, eta=0.5), Price(16, 32, 24)),
    "accumulated": (plan("mim-mu", TRAINING | {"accumulate": 2}, lock=0.0, eta=0.0), Price(16, 16, 24)),
    # Guidance predicts what ESD asks for: two trajectories of 4 steps give 8 points with both references.
    "trajectory": (plan("esd", surrogate="null"), Price(2 * 4 * 2, 0, 24)),
    # Another concept's prompt in the place of the empty one: its reference at each of those points.
    "erased from another": (plan("esd"), Price(2 * 4 * 2, 8, 24)),
    # Pictures: 2 of the concept, 3 of what survives. Prepared: 8 references, 8 with gradient, 8 without. Then 16 with and 8 of the
    # mean in each of 3 steps.
    "prepared": (plan(Prepared(), TRAINING | {"retain_pictures": 3, "ema": 0.5}), Price(5 * 4 * 2, 8, 8 + 3 * 16, 8 + 3 * 8)),
    # Attention is looked at where a prediction would be made, and costs as much.
    "attention": (plan("fmn"), Price(16, 0, 24)),
    # References at the trajectories' 8 points under the anchor and under what is held; the concept's are free. Two student rows.
    "anchored": (plan("spm"), Price(16, 2 * 8, 48)),
    # No inner loop: a step is one row of each kind.
    "two levels": (plan("erase-diff", TRAINING | {"retain_pictures": 3}), Price(40, 16, 48)),
    # Fisher's information of each of the bank's 16 points, not of more.
    "fisher": (plan("selective-amnesia", TRAINING | {"retain_pictures": 3}), Price(40, 0, 16 + 48)),
    "closed form": (plan("uce", None), Price(0, 0, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_price_is_counted_by_hand_and_by_the_run(case: str, tmp_path: Path):
    wanted, expected = CASES[case]
    model, store = DENOISER, Store(tmp_path / "store")
    assert price(wanted, tiny.session(model, store)) == expected
    assert not (tmp_path / "store").exists()
    card = carry_out(wanted, tiny.session(model, store), tmp_path / "run").card
    assert (card["forwards"], card["backwards"]) == (expected.forwards, expected.backwards)


@pytest.mark.parametrize("method", ["mim-mu", "esd"])
def test_what_is_in_the_store_costs_nothing(method: str, tmp_path: Path):
    wanted, model, store = plan(method), DENOISER, Store(tmp_path / "store")
    fresh = price(wanted, tiny.session(model, store))
    carry_out(wanted, tiny.session(model, store), tmp_path / "first")
    again = price(wanted, tiny.session(model, store))
    assert again == Price(0, fresh.reference, fresh.student)
    card = carry_out(wanted, tiny.session(model, store), tmp_path / "second").card
    assert (card["forwards"], card["backwards"]) == (again.forwards, again.backwards)


def test_a_price_leaves_the_network_alone():
    model = DENOISER
    before = {n: (p.clone(), p.requires_grad) for n, p in model.network.named_parameters()}
    net = model.network
    with counted(net) as count:
        price(plan("mim-mu"), tiny.session(model, Store(Path("/nowhere"))))
    assert count.samples == 0
    assert model.network is net
    assert all(p.equal(before[n][0]) and p.requires_grad == before[n][1] for n, p in net.named_parameters())


def test_pace_times_both_and_gives_the_network_back():
    model = DENOISER
    required = [p.requires_grad for p in model.network.parameters()]
    with counted(model.network) as count:
        measured = pace(model, SCOPES["xattn-kv"], 3)
    assert count.samples == 4 * 3  # each action twice, the first time for warming up
    assert measured.forward > 0
    assert measured.both > 0
    assert [p.requires_grad for p in model.network.parameters()] == required
    assert all(p.grad is None for p in model.network.parameters())


def test_seconds_are_pace_times_price():
    # 10 + 20 forwards at 1 s, and 5 of both at 3 s.
    assert Pace(1.0, 3.0).seconds(Price(10, 20, 5)) == 45.0
    assert Pace(1.0, 3.0).seconds(Price(10, 20, 5, 2)) == 47.0
