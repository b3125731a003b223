"""SalUn's mask by hand, and that it holds what it should. Each defect was found in a released code, and fails its test."""

from pathlib import Path

import pytest
import tiny
import torch
from pydantic import ValidationError
from raising import raises_error
from torch import Tensor

from expunge.config import build
from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised, Point
from expunge.errors import ExpungeError
from expunge.methods.base import Training
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import SalUn
from expunge.runs.cost import price
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import carry_out, unlearn
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

LATENT = (1, 1, 1, 2)


class Linear:
    """A student that predicts theta x_t, each of the latent's two numbers by its own weight, and remembers what it was asked."""

    def __init__(self, theta: list[float]):
        self.weights = {"a": torch.nn.Parameter(torch.tensor(theta[:1])), "b": torch.nn.Parameter(torch.tensor(theta[1:]))}
        self.asked: list[Point] = []

    def __call__(self, point: Point) -> Tensor:
        self.asked.append(point)
        return torch.cat([self.weights["a"], self.weights["b"]]) * point.x_t


def cond(key: str) -> Cond:
    return Cond(torch.zeros(1, 2, 4), (key,))


def noised(x: list[float], noise: list[float], key: str = "neon") -> Noised:
    return Noised(torch.tensor(x).view(LATENT), torch.tensor([5]), cond(key), ("p",), torch.tensor(noise).view(LATENT))


def mask(batches: list[Noised], theta: tuple[float, float] = (1.0, 1.0), **settings) -> tuple[list[bool], Linear]:
    """The masks of the two weights, and the student that they were made by."""
    student, asked = Linear(list(theta)), []

    def of_step(step: int) -> Batch:
        asked.append(step)
        return Batch(step, cond("neon"), cond(""), {"forget": batches[-1 - step], "marginal": cond("ink")})

    method = SalUn(mask_batches=len(batches), **settings)
    masks = method.masks(method.prepare(Models(student, lambda p: p.x_t, weights=student.weights), of_step))
    assert all(step < 0 for step in asked)  # none of training's own
    return [masks["a"].item(), masks["b"].item()], student


def test_the_most_salient_move_and_not_the_least():
    """At theta = 1 the slopes 2 (theta x - eps) x are 2 (1 - 0) 1 = 2 and 2 (2 - 0) 2 = 8. A released code ranks the other way round."""
    assert mask([noised([1.0, 2.0], [0.0, 0.0])])[0] == [False, True]
    assert mask([noised([2.0, 1.0], [0.0, 0.0])])[0] == [True, False]


def test_the_released_mask_is_of_a_guided_prediction():
    """With w = 1 the prediction is 2 f(c) - f(""). Here f is theta x under the prompt and theta x / 2 without, so it is 1.5 theta x. The
    slopes at theta = 1 are 2 (1.5 x - eps) 1.5 x: with x = (1, 3) and eps = (1, 4.5) of a 1.5, of b 0. Unguided they are 2 (x - eps) x: of
    a 0, of b -9."""

    class Halved(Linear):
        def __call__(self, point: Point) -> Tensor:
            whole = super().__call__(point)
            return whole * torch.tensor([0.5 if not key else 1.0 for key in point.cond.keys]).view(-1, 1, 1, 1)

    def chosen(noise: list[float], **settings) -> list[bool]:
        student = Halved([1.0, 1.0])
        batch = Batch(-1, cond("neon"), cond(""), {"forget": noised([1.0, 3.0], noise), "marginal": cond("ink")})
        method = SalUn(mask_batches=1, **settings)
        masks = method.masks(method.prepare(Models(student, lambda p: p.x_t, weights=student.weights), lambda step: batch))
        return [masks["a"].item(), masks["b"].item()]

    assert chosen([1.0, 4.5], mask_guidance=1.0) == [True, False]
    assert chosen([1.0, 4.5]) == [False, True]
    assert (SalUn().reads_null, SalUn(mask_guidance=7.5).reads_null) == (False, True)


def test_slopes_are_summed_before_their_magnitude_is_taken():
    """Of a the slopes are 8 and -8, of b twice 2: the loss of all pictures together pulls at b alone."""
    there, back = noised([2.0, 1.0], [0.0, 0.0]), noised([2.0, 1.0], [4.0, 0.0])
    assert mask([there, back])[0] == [False, True]
    assert mask([there])[0] == [True, False]


def test_the_weights_do_not_drift_while_the_mask_is_made():
    """A released code takes an optimizer step after each batch, and so ranks by the slopes of networks that nobody asked about.

    Four times the same picture. At theta = 1 the slopes are 2 (1 - 0) 1 = 2 and 2 (3 - 2.6) 3 = 2.4: b. With steps of lr 0.05 in
    between, a's shrinks by 1 - 2 lr = 0.9 each time, b's by 1 - 18 lr = 0.1, and their sums would rank a first.
    """
    picture = noised([1.0, 3.0], [0.0, 2.6])
    kept, student = mask([picture] * 4)
    assert kept == [False, True]
    assert (student.weights["a"].item(), student.weights["b"].item()) == (1.0, 1.0)
    assert all(w.grad is None for w in student.weights.values())

    drifting, total = Linear([1.0, 1.0]), torch.zeros(2)  # the defective form
    optimizer = torch.optim.SGD(drifting.weights.values(), 0.05)
    for _ in range(4):
        optimizer.zero_grad()
        (drifting(picture) - picture.goal).square().sum().backward()
        total += torch.cat([w.grad for w in drifting.weights.values()])
        optimizer.step()
    assert total.tolist() == pytest.approx([2 * (1 + 0.9 + 0.81 + 0.729), 2.4 * 1.111], rel=1e-4)


def test_the_masks_loss_is_of_the_concepts_prompt_once_and_of_no_guidance():
    """A released code guides by a second branch that is meant to be unprompted and is not: it asks twice for the same."""
    pictures = [noised([1.0, 2.0], [0.0, 0.0]), noised([3.0, 1.0], [1.0, 0.0])]
    _, student = mask(pictures)
    assert [p.cond.keys for p in student.asked] == [("neon",), ("neon",)]
    assert all(torch.equal(asked.x_t, given.x_t) for asked, given in zip(student.asked, pictures, strict=True))


def test_the_mask_is_worked_out_point_by_point():
    """A whole batch would not fit where `--accumulate` has training go through it in parts. The slopes add up to the batch's."""
    one, two = noised([1.0, 2.0], [0.0, 0.0]), noised([3.0, 1.0], [1.0, 0.0])
    both = Noised(
        torch.cat([one.x_t, two.x_t]),
        torch.tensor([5, 5]),
        Cond(torch.zeros(2, 2, 4), ("neon",) * 2),
        ("p", "q"),
        torch.cat([one.goal, two.goal]),
    )
    together, student = mask([both])
    assert [len(point) for point in student.asked] == [1, 1]
    assert together == mask([one, two])[0]


def test_a_share_of_one_lets_all_move_as_random_relabelling_does():
    assert mask([noised([1.0, 2.0], [0.0, 0.0])], share=1.0)[0] == [True, True]


def test_the_retained_and_the_other_name_have_no_say_in_the_mask():
    """The forget bank alone is read: a batch that holds nothing else is enough."""
    student = Linear([1.0, 1.0])
    only = Batch(-1, cond("neon"), cond(""), {"forget": noised([1.0, 2.0], [0.0, 0.0])})
    assert SalUn().prepare(Models(student, student, weights=student.weights), lambda step: only)["mask.b"].all()


def test_slopes_that_are_not_finite_make_no_mask():
    with raises_error("gradient-not-finite"):
        mask([noised([float("inf"), 1.0], [0.0, 0.0])])


# --- whole runs -------------------------------------------------------------------------------------------------------------


class MaskNeverApplied(SalUn):
    """As where a name is looked for in a list of tensors."""

    def masks(self, notes):
        return {}


class MaskAfterTheStep(Trainer):
    """As where `.grad` is multiplied when the optimizer has already stepped, and then cleared."""

    def _mask_gradients(self) -> None:
        pass


def trained(method: SalUn | RandomLabel, trainer: type[Trainer] = Trainer, **training) -> Trainer:
    settings, model = Training(**tiny.TRAINING | training), tiny.model()
    batches = gather(tiny.session(model), tiny.concept(), method.needs, settings, 0)
    made = trainer(tiny.session(model), method, settings, batches, TrainState(model, method.scope))
    list(made.fit())
    return made


def moved(made: Trainer, kept: bool) -> bool:
    """Whether any number moved that the mask keeps (or holds)."""
    masks = {n: m if kept else ~m for n, m in SalUn().masks(made.hooks.notes).items()}
    assert masks.keys() == made.state.trained.keys()
    return any(bool(((w != made.state.initial[n]) & masks[n]).any()) for n, w in made.state.trained.items())


@pytest.mark.parametrize("variant", ["xattn", "full"])
def test_what_is_not_salient_never_moves(variant: str):
    made = trained(SalUn(variant=variant, mask_batches=2))
    assert moved(made, kept=True)
    assert not moved(made, kept=False)
    masks = list(SalUn().masks(made.hooks.notes).values())
    assert sum(int(m.sum()) for m in masks) == pytest.approx(0.5 * sum(m.numel() for m in masks), abs=1)


def test_a_mask_that_is_never_applied_is_seen():
    assert moved(trained(MaskNeverApplied(variant="xattn", mask_batches=2)), kept=False)


def test_a_mask_that_comes_after_the_step_is_seen():
    assert moved(trained(SalUn(variant="xattn", mask_batches=2), MaskAfterTheStep), kept=False)


def test_with_a_share_of_one_a_run_is_random_relabelling():
    ours, plain = trained(SalUn(share=1.0, variant="xattn", mask_batches=1)), trained(RandomLabel(variant="xattn"))
    assert all(torch.equal(w, plain.state.trained[n]) for n, w in ours.state.trained.items())


def test_the_mask_is_that_of_the_untouched_weights_to_the_last_bit():
    """Summed by hand over the batches that it was made from, on a network that has not been trained."""
    made, untouched = trained(SalUn(variant="xattn", mask_batches=2)), tiny.model()
    fresh = TrainState(untouched, SalUn(variant="xattn").scope)
    sizes = {n: torch.zeros_like(w) for n, w in fresh.trained.items()}
    for step in (-1, -2):
        x = made.batches(step).forget
        loss = (untouched.predict(x).float() - x.goal).square().sum() / len(x)
        for size, slope in zip(sizes.values(), torch.autograd.grad(loss, list(fresh.trained.values())), strict=True):
            size += slope
    gamma = torch.cat([s.abs().flatten() for s in sizes.values()]).sort(descending=True).values
    gamma = gamma[round(0.5 * len(gamma)) - 1]
    assert all(torch.equal(mask, sizes[n].abs() >= gamma) for n, mask in SalUn().masks(made.hooks.notes).items())


class Interrupted(Exception):
    pass


def test_a_resumed_run_ends_where_a_straight_one_does(tmp_path: Path):
    """With the mask read from its folder."""

    def stop(steps, start, total):
        for step in steps:
            yield step
            if step.step == 3:
                raise Interrupted

    def delta(name: str, watch=None) -> bytes:
        method, training, store = SalUn(variant="xattn", mask_batches=2), tiny.TRAINING | {"checkpoint_every": 2}, Store(tmp_path)
        unlearn(tiny.model(), tiny.concept(), method, training=training, out=tmp_path / name, cache=store, progress=tiny.watching(watch))
        return (tmp_path / name / "delta.safetensors").read_bytes()

    straight = delta("straight")
    with pytest.raises(Interrupted):
        delta("cut", stop)
    assert delta("cut") == straight


def test_a_run_costs_what_it_was_said_to(tmp_path: Path):
    """2 batches of 4 for the mask; then in each of 6 steps 4 of the concept, each with its goal, and 4 of the rest."""
    method, model, store = SalUn(variant="xattn", mask_batches=2), tiny.model(), Store(tmp_path / "store")
    plan = make_plan(model, tiny.concept(), method, training=tiny.TRAINING)
    said = price(plan, tiny.session(model, store))
    assert (said.student, said.glances, said.reference) == (2 * 4 + 6 * 8, 6 * 4, 0)
    card = carry_out(plan, tiny.session(model, store), tmp_path / "run").card
    assert (card["forwards"], card["backwards"]) == (said.forwards, said.backwards)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.5}, {"mask_batches": 0}, {"variant": "xattn-lora"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises((ExpungeError, ValidationError), match=next(iter(wrong))):
        build(SalUn, wrong, "salun")
