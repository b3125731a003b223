"""What every method that draws the student to a goal shares: the loss by weights, its scale, and the equality with the squared error."""

import math
from dataclasses import dataclass, replace

import pytest
import tiny
import torch
from raising import raises_error
from torch import Tensor
from torch.nn import functional as F

from expunge.config import build
from expunge.diffusion.batch import Batch
from expunge.diffusion.divergence import find_divergence
from expunge.diffusion.losses import squared_error
from expunge.diffusion.networks import Models
from expunge.diffusion.noise_path import Discrete, Flow, NoisePath
from expunge.diffusion.types import Cond, Noised, Point
from expunge.errors import ExpungeError
from expunge.methods import METHODS
from expunge.methods._matching import CAP, Matching, path_weight
from expunge.methods.base import Objective
from expunge.methods.esd import ESD
from expunge.models.scopes import SCOPES
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

PATH = Discrete()


@dataclass(frozen=True)
class Toward(Matching):
    """Draws to 0 whatever is there."""

    needs = frozenset({"forget", "reference"})
    scope = SCOPES["full"]

    def goal(self, models: Models, batch: Batch) -> tuple[Point, Tensor]:
        return batch.forget, torch.zeros_like(batch.forget.x_t)

    def __call__(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        return {"forget": self.match(models, *self.goal(models, batch))}


def batch(*m: float, t: tuple[int, ...] | None = None) -> Batch:
    """A point for each mean squared difference from 0, four numbers wide, which networks below predict as it stands."""
    x_t = torch.tensor(m).sqrt()[:, None, None, None].expand(-1, 1, 2, 2)
    cond = Cond(torch.zeros(len(m), 2, 4), ("ring",) * len(m))
    at = torch.tensor(t or (500,) * len(m))
    return Batch(0, cond[[0]], cond[[0]], {"forget": Noised(x_t, at, cond, tuple(map(str, m)), x_t)})


def models(method: Matching, first: Batch) -> Models:
    """A student that predicts x_t scaled by a trained number, 1 at first, and what the method notes on its first batch."""
    theta = torch.nn.Parameter(torch.ones(()))
    made = Models(lambda p: theta * p.x_t, lambda p: p.x_t, weights={"theta": theta}, path=PATH)
    return replace(made, notes=method.prepare(made, lambda step: first))


def loss_and_slope(method: Matching, given: Batch) -> tuple[float, float]:
    made = models(method, given)
    loss = method(made, given)["forget"]
    return loss.item(), torch.autograd.grad(loss, made.weights["theta"])[0].item()


def test_hellinger_by_hand():
    """m = 1, 4 and kappa = 2: M = 2, 8, w = e^{-1/4}, e^{-1}. d m / d theta = 2 m at theta = 1."""
    loss, slope = loss_and_slope(Toward(divergence="hellinger", kappa=2.0), batch(1.0, 4.0))
    w = math.exp(-1 / 4), math.exp(-1)
    assert loss == pytest.approx((w[0] * 1 + w[1] * 4) / 2)
    assert slope == pytest.approx((w[0] * 2 + w[1] * 8) / 2)


def test_a_weight_is_of_each_point_and_not_of_the_batch():
    """The defective form, exp(- kappa mean(m) / 8), gives one point far off the power to silence the near ones."""
    _, slope = loss_and_slope(Toward(divergence="hellinger", kappa=8.0), batch(0.1, 100.0))
    assert slope == pytest.approx(math.exp(-0.1) * 0.2 / 2, rel=1e-4)
    assert slope > 1e6 * math.exp(-50.05) * 100.1


@pytest.mark.parametrize("name", ["hellinger", "js", "tv", "chi2", "alpha=0.3", "jeffreys"])
def test_the_gradient_is_that_of_the_divergence_itself(name: str):
    """d/dtheta mean_i D_f(kappa m_i), over D_f'(0) kappa (for total variation KL's)."""
    given, method = batch(0.3, 0.7, 1.5), Toward(divergence=name, kappa=1.7)
    m, f = torch.tensor([0.3, 0.7, 1.5], dtype=torch.float64), find_divergence(name)
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    [exact] = torch.autograd.grad(f.value(1.7 * theta**2 * m).mean(), theta)
    first = torch.full((), 1e-7, dtype=torch.float64, requires_grad=True)
    at_0 = 0.5 if name == "tv" else torch.autograd.grad(f.value(first), first)[0].item()
    assert loss_and_slope(method, given)[1] == pytest.approx(exact.item() / (1.7 * at_0), rel=1e-5)


def test_far_points_pull_least_by_hellinger_and_most_by_chi2():
    def share(name: str) -> float:
        method = Toward(divergence=name, kappa=1.0)
        far, all_ = loss_and_slope(method, batch(2.5))[1], loss_and_slope(method, batch(2.5, 0.5))[1] * 2
        return far / all_

    assert share("js") < share("hellinger") < share("kl") < share("chi2")


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "jeffreys", "renyi=0.5", "alpha=1"])
def test_kl_is_the_mean_squared_error(name: str):
    x = torch.randn(5, 4, 3, 3)
    given = batch(*[1.0] * 5)
    point = replace(given.forget, x_t=x, goal=x)
    method, goal = Toward(divergence=name), torch.randn(5, 4, 3, 3)
    made = models(method, given)
    assert made.notes == {}
    torch.testing.assert_close(method.match(made, point, goal), F.mse_loss(x, goal))


@pytest.mark.parametrize("method", ["esd", "mim-mu"])
def test_by_default_runs_end_in_the_same_bytes_as_with_the_plain_loss(method: str, tmp_path, monkeypatch):
    def delta(name: str) -> dict[str, Tensor]:
        return unlearn(tiny.model(), tiny.concept(), method, training=tiny.TRAINING, out=tmp_path / name, cache=Store(tmp_path)).delta()

    ours = delta("ours")

    def plain(self, models, point, goal, prediction=None):
        return squared_error(models.student(point) if prediction is None else prediction, goal).mean()

    monkeypatch.setattr(Matching, "match", plain)
    theirs = delta("theirs")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# --- the scale ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "start", "median"), [("hellinger", "auto", 2.0), ("chi2", "auto", 0.5), ("hellinger", 4.0, 4.0)])
def test_by_itself_kappa_makes_the_median_start_where_it_should(name: str, start: float | str, median: float):
    given = batch(0.01, 0.02, 0.5)
    notes = models(Toward(divergence=name, start=start), given).notes
    assert notes["kappa"].item() == pytest.approx(median / 0.02)
    m = notes["kappa"] * torch.tensor([0.01, 0.02, 0.5])
    assert notes["mean_weight"].item() == pytest.approx(find_divergence(name).weight(m).mean().item())


def test_the_exact_kappa_is_that_of_ddpm_steps():
    """D = 4 numbers, lam_t at its cap: M = lam_t || difference ||^2 = 0.0131 * 4 m."""
    assert models(Toward(divergence="js", kappa="exact"), batch(1.0)).notes["kappa"].item() == pytest.approx(CAP * 4)


def test_a_goal_that_is_reached_already_leaves_kappa_at_1():
    notes = models(Toward(divergence="hellinger"), batch(0.0, 0.0, 3.0)).notes
    assert notes["kappa"].item() == 1


@pytest.mark.parametrize("name", ["hellinger", "chi2", "tv", "js"])
def test_the_loss_is_finite_in_bf16_however_far_the_goal(name: str):
    made = models(Toward(divergence=name, kappa=1e6), batch(1.0))
    x = torch.full((2, 1, 2, 2), 100.0, dtype=torch.bfloat16, requires_grad=True)
    loss = Toward(divergence=name).match(replace(made, student=lambda p: x), batch(1.0, 1.0).forget, torch.zeros(2, 1, 2, 2))
    [slope] = torch.autograd.grad(loss, x)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert slope.isfinite().all()


def test_a_start_beside_a_given_kappa_is_refused():
    with raises_error("start-with-kappa", 2.0):
        Toward(divergence="js", kappa="exact", start=2.0)


# --- the weight of a timestep -----------------------------------------------------------------------------------------------


def test_the_weight_of_a_timestep_is_lam_t_up_to_its_cap():
    table = {1: 0.0131, 100: 0.0131, 200: 0.00840, 500: 0.00673, 999: 0.0122}
    lam = path_weight(PATH, torch.tensor([*map(float, table)])) * CAP
    assert dict(zip(table, lam.tolist(), strict=True)) == pytest.approx(table, rel=5e-3)


@pytest.mark.parametrize("path", [Discrete(predicts="v_prediction"), Flow()], ids=["v", "flow"])
def test_of_other_predictions_it_is_the_weight_of_the_same_difference_of_noise(path: NoisePath):
    """And nothing where only noise is left, and nothing that is predicted moves it."""
    t = torch.tensor([500.0, 999.0])
    signal, _ = path.levels(t)
    assert path_weight(path, t).tolist() == pytest.approx((path.lam(t, CAP) / CAP * signal.double() ** 2).tolist())
    assert path_weight(Flow(), torch.tensor([1000.0])).item() == 0


@pytest.mark.parametrize("name", ["kl", "hellinger"])
def test_timesteps_may_count_by_their_share_of_the_path(name: str):
    given, lam = batch(1.0, 1.0, t=(10, 400)), path_weight(PATH, torch.tensor([10.0, 400.0]))
    method = Toward(divergence=name, kappa=2.0, time_weight="path")
    w = torch.exp(-2 * lam / 8) if name == "hellinger" else torch.ones(2)
    assert loss_and_slope(method, given)[0] == pytest.approx((w * lam).mean().item())


def test_the_median_too_counts_by_the_path():
    given = batch(1.0, t=(400,))
    notes = models(Toward(divergence="hellinger", time_weight="path"), given).notes
    assert notes["kappa"].item() == pytest.approx(2 / path_weight(PATH, torch.tensor([400.0])).item())


# --- as settings ------------------------------------------------------------------------------------------------------------

MATCHING = {name: cls for name, cls in METHODS.items() if issubclass(cls, Matching)}


@pytest.mark.parametrize("name", MATCHING)
def test_a_command_line_may_name_a_divergence_and_its_scale(name: str):
    given = {"divergence": "alpha=0.3", "kappa": "250", "time_weight": "path"}
    method = build(MATCHING[name], given, name)
    assert (method.divergence, method.kappa, method.time_weight) == ("alpha=0.3", 250.0, "path")
    assert build(MATCHING[name], {"kappa": "exact"}, name).kappa == "exact"
    assert build(MATCHING[name], {"start": "4"}, name).start == 4.0


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"divergence": "helinger"}, "is not a divergence"),
        ({"kappa": "0"}, "kappa"),
        ({"kappa": "autos"}, "kappa"),
        ({"start": -1}, "start"),
        ({"time_weight": "snr"}, "time_weight"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, object], complaint: str):
    with pytest.raises(ExpungeError, match=complaint):
        build(ESD, given, "esd")


def test_squared_errors_are_of_each_point():
    a, b = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 1, 2, 2)
    assert squared_error(a, b).tolist() == [1.0, 9.0]


@pytest.mark.parametrize("method", ["esd", "mim-mu", "f-dmu"])
def test_a_run_says_the_scale_that_it_found(method: str, tmp_path):
    run = unlearn(
        tiny.model(), tiny.concept(), method, divergence="hellinger", training=tiny.TRAINING, out=tmp_path / "r", cache=Store(tmp_path)
    )  # fmt: skip
    assert run.card["config"]["kappa"] == "auto"
    assert run.card["notes"]["kappa"] > 0
    assert 0 < run.card["notes"]["mean_weight"] < 1


def test_a_matching_method_is_an_objective():
    assert all(issubclass(cls, Objective) for cls in MATCHING.values())
    assert {"esd", "mim-mu", "f-dmu"} <= set(MATCHING)
