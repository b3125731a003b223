"""f-DMU's losses on numbers small enough to do by hand, and the two sides of its variational form kept apart."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from raising import raises_error
from torch import Tensor, nn

from expunge.diffusion.batch import Batch
from expunge.diffusion.divergence import BOUNDS
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised, Point
from expunge.methods._critic import Discriminator, sinusoids
from expunge.methods.f_divergence import FDMU
from expunge.runs.cost import price
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import carry_out, unlearn
from expunge.storage.cache import Store
from expunge.training.steps import Step

CONDITIONS = {"neon": 3.0, "plain": 1.0}


def cond(key: str, rows: int = 1) -> Cond:
    return Cond(torch.zeros(rows, 2, 4), (key,) * rows)


def network(offset: float):
    """A network that predicts a constant: its prompt's number plus `offset`."""
    return lambda point: torch.stack([torch.full((1, 2, 2), CONDITIONS[k] + offset) for k in point.cond.keys])


def batch() -> Batch:
    latents = torch.zeros(1, 1, 2, 2)
    x = Noised(latents, torch.tensor([5]), cond("neon"), ("p",), latents)
    return Batch(0, cond("neon"), cond(""), {"anchor_pictures": x, "anchor": cond("plain")})


def test_with_kl_the_concepts_prompt_is_drawn_to_the_anchors_prediction():
    """On pictures of the anchor: the student says 3.5 of the concept, the untouched model 1 of the anchor."""
    method = FDMU(divergence="kl")
    assert method(Models(network(0.5), network(0.0)), batch())["forget"].item() == (3.5 - 1.0) ** 2


def test_the_default_is_hellinger_with_a_scale_found_at_the_start():
    """The student begins 2.5 off, m = 6.25, and M = 2 there: kappa = 0.32; the untouched model, 2 off, has no say in it."""
    method, models = FDMU(), Models(network(0.5), network(0.0))
    notes = method.prepare(models, lambda step: batch())
    assert notes["kappa"].item() == pytest.approx(0.32)
    loss = method(replace(models, notes=notes), batch())["forget"].item()
    assert loss == pytest.approx(2.5**2 * torch.tensor(-2 / 8).exp().item())


def test_the_target_is_the_untouched_model_and_not_the_present_one():
    """Concept Ablation draws to the student's own prediction of the anchor, which moves along: at last nothing holds it."""
    drifted = Models(network(10.0), network(0.0))
    assert FDMU(divergence="kl")(drifted, batch())["forget"].item() == (13.0 - 1.0) ** 2


# --- the variational form ---------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """A discriminator of two numbers: v = a mean(eps) + b."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x_t: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return self.a * eps.mean((1, 2, 3)) + self.b


def duel(name: str, a: float = 0.4, b: float = -0.3) -> tuple[dict[str, Tensor], nn.Parameter, Two]:
    theta, companion = nn.Parameter(torch.tensor(0.5)), Two(a, b)
    student = lambda point: torch.ones(1, 1, 2, 2) * theta  # noqa: E731
    terms = FDMU(divergence=name, form="variational")(Models(student, network(0.0), companion=companion), batch())
    return terms, theta, companion


def test_the_duel_by_hand():
    """Pearson's chi^2: g(v) = v, f*(v) = v^2/4 + v. The goal is 1, the student's 0.5: v = 0.1 and -0.1."""
    terms, _, _ = duel("chi2")
    on_student = 0.1**2 / 4 - 0.1
    assert terms["forget"].item() == pytest.approx(-on_student)
    assert terms["discriminator"].item() == pytest.approx(on_student - 0.1)


@pytest.mark.parametrize("name", BOUNDS)
def test_each_side_descends_its_own_term_alone(name: str):
    """Descending one sum for both would have the discriminator help the student: what it says of the student cancels."""
    terms, theta, companion = duel(name)
    alone = torch.autograd.grad(terms["forget"], [theta, *companion.parameters()], allow_unused=True, retain_graph=True)
    assert alone[0] != 0
    assert alone[1:] == (None, None)
    theirs = torch.autograd.grad(terms["discriminator"], [theta, *companion.parameters()], allow_unused=True, retain_graph=True)
    assert theirs[0] is None
    assert all(slope != 0 for slope in theirs[1:2])
    sum(terms.values()).backward()
    assert theta.grad == alone[0]
    assert companion.a.grad == theirs[1]


@pytest.mark.parametrize("name", BOUNDS)
def test_the_student_goes_where_the_discriminator_takes_it_for_the_goal(name: str):
    """v grows with the prediction, and is larger for the goal (1) than for the student (0.5): a descending student grows."""
    terms, theta, _ = duel(name)
    assert torch.autograd.grad(terms["forget"], theta)[0] < 0


@pytest.mark.parametrize("name", BOUNDS)
def test_the_discriminator_learns_to_tell_the_goal_from_the_student(name: str):
    """Here it can only shift and scale; from nothing it comes to say more of the goal, and its bound rises."""
    terms, _, companion = duel(name, a=0.01, b=0.0)
    before = terms["discriminator"].item()
    optimizer = torch.optim.SGD(companion.parameters(), 0.1)
    terms["discriminator"].backward()
    optimizer.step()
    after, _, _ = duel(name, companion.a.item(), companion.b.item())
    assert after["discriminator"].item() < before
    assert companion.a > 0.01


def test_only_the_variational_form_has_a_companion_and_no_scale():
    assert FDMU().companion((4, 8, 8)) is None
    method = FDMU(form="variational")
    assert isinstance(method.companion((4, 8, 8)), Discriminator)
    assert method.prepare(Models(network(0.5), network(0.0)), lambda step: batch()) == {}


def test_a_divergence_without_a_conjugate_is_refused():
    with raises_error("no-variational-form", "jeffreys", "--form closed"):
        FDMU(divergence="jeffreys", form="variational")


# --- whole runs -------------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def cut(steps: Iterator[Step], start: int, total: int) -> Iterator[Step]:
    """Interrupts after the third step."""
    for step in steps:
        yield step
        if step.step == 3:
            raise Interrupted


@pytest.mark.parametrize("settings", [{"form": "closed"}, {"form": "variational"}, {"time_weight": "path", "divergence": "chi2"}])
def test_a_resumed_run_ends_where_a_straight_one_does(settings: dict[str, str], tmp_path: Path):
    """The discriminator, what it normalises by, and the scale that was found at the start all come along."""

    def delta(name: str, watch=None) -> bytes:
        training = tiny.TRAINING | {"checkpoint_every": 2}
        unlearn(
            tiny.model(), tiny.concept(), "f-dmu", training=training, out=tmp_path / name, cache=Store(tmp_path),
            progress=tiny.watching(watch), **settings,
        )  # fmt: skip
        return (tmp_path / name / "delta.safetensors").read_bytes()

    straight = delta("straight")
    with pytest.raises(Interrupted):
        delta("cut", cut)
    assert delta("cut") == straight


@pytest.mark.parametrize("form", ["closed", "variational"])
def test_a_run_costs_what_it_was_said_to(form: str, tmp_path: Path):
    model, store = tiny.model(), Store(tmp_path)
    plan = make_plan(model, tiny.concept(), "f-dmu", training=tiny.TRAINING, form=form)
    said = price(plan, tiny.session(model, store))
    run = carry_out(plan, tiny.session(model, store), tmp_path / "run")
    assert (run.card["forwards"], run.card["backwards"]) == (said.forwards, said.backwards)
    # Of 16 points, 24 visits: each anchor prediction once. To find its scale, the closed form also has the student look at 4.
    assert (said.reference, said.glances) == (16, 4 if form == "closed" else 0)


# --- the discriminator ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 16, 64])
def test_it_says_one_number_of_each_point_and_at_first_nothing(size: int):
    companion = Discriminator(4)
    said = companion(torch.randn(3, 4, size, size), torch.randn(3, 4, size, size), torch.tensor([1, 500, 999]))
    assert said.tolist() == [0.0, 0.0, 0.0]


def test_it_hears_the_point_the_prediction_and_the_time():
    companion = Discriminator(4)
    nn.init.normal_(companion.head.weight)
    x, eps, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([500])
    companion.eval()  # no step of the spectral norms' power iteration between the calls
    said = companion(x, eps, t)
    assert not torch.equal(companion(x + 1, eps, t), said)
    assert not torch.equal(companion(x, eps + 1, t), said)
    assert not torch.equal(companion(x, eps, t + 100), said)


def test_its_convolutions_do_not_stretch():
    companion = Discriminator(2)
    for convolution in companion.convolutions:
        for _ in range(30):  # each forward is one step of the power iteration
            weight = convolution.weight.detach()
        assert torch.linalg.matrix_norm(weight.flatten(1), 2) == pytest.approx(1, abs=2e-2)


def test_its_fixed_form_passes_gradient_to_the_prediction_alone():
    companion = Discriminator(1)
    nn.init.normal_(companion.head.weight)
    eps = torch.randn(2, 1, 8, 8, requires_grad=True)
    models = Models(network(0), network(0), companion=companion)
    models.fixed_companion(torch.randn(2, 1, 8, 8), eps, torch.tensor([1, 2])).sum().backward()
    assert eps.grad.abs().sum() > 0
    assert all(p.grad is None for p in companion.parameters())


def test_it_learns_what_tells_two_kinds_of_prediction_apart():
    """The bound of Jensen-Shannon between predictions of mean 0.3 and -0.3 rises towards its limit of log 2."""
    companion, f = Discriminator(1), BOUNDS["js"]
    optimizer = torch.optim.Adam(companion.parameters(), 2e-3, betas=(0.0, 0.99))
    x, t = torch.zeros(16, 1, 8, 8), torch.full((16,), 300)
    bounds = []
    for _ in range(40):
        p, q = (torch.randn(16, 1, 8, 8) + mean for mean in (0.3, -0.3))
        bounds.append((f.on_p(companion(x, p, t)) - f.on_q(companion(x, q, t))).mean())
        optimizer.zero_grad()
        (-bounds[-1]).backward()
        optimizer.step()
    assert bounds[0] == 0
    assert torch.stack(bounds[-5:]).mean() > 0.3


def test_times_are_told_apart():
    codes = sinusoids(torch.arange(0, 1000, 50), 64)
    assert codes.shape == (20, 64)
    assert torch.pdist(codes).min() > 0.5
    assert codes[0].tolist() == [0.0] * 32 + [1.0] * 32


def test_points_are_pictures_of_the_anchor_under_the_concepts_prompt():
    point, goal = FDMU().goal(Models(network(0.5), network(0.0)), batch())
    assert isinstance(point, Point)
    assert point.cond.keys == ("neon",)
    assert goal.tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
