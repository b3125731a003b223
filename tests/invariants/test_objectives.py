"""The hooks of an objective and the ways to train, on methods made for the purpose."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import tiny
import torch
from annotated_types import Ge
from raising import raises_error
from torch import nn
from torch.nn import functional as F

from expunge.diffusion.batch import Batch, Need, Terms
from expunge.diffusion.networks import Models
from expunge.errors import ExpungeError
from expunge.methods.base import Objective, Training
from expunge.models.scopes import SCOPES, Scope
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState


class Interrupted(Exception):
    pass


def stop_after(step: int):
    def watch(steps, start, total):
        for s in steps:
            yield s
            if s.step == step:
                raise Interrupted

    return watch


@dataclass(frozen=True)
class Plain(Objective):
    """Forget under the null's prediction and keep what survives, with every part there is."""

    variant: str = "xattn-kv"

    training: ClassVar[Training] = Training(**tiny.TRAINING, checkpoint_every=2)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "retain", "surrogate", "anchor_pictures", "reference", "marginal"})

    @property
    def scope(self) -> Scope:
        return SCOPES[self.variant]

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x = batch.forget
        return {
            "forget": F.mse_loss(models.student(x), models.reference(x.given(batch.marginal))),
            "retain": F.mse_loss(models.student(batch.retain), batch.retain.goal),
            "surrogate": F.mse_loss(models.student(batch.surrogate), models.reference(batch.surrogate)),
            "anchor": F.mse_loss(models.student(batch.anchor_pictures), batch.anchor_pictures.goal),
        }


@dataclass(frozen=True)
class Everything(Plain):
    """Every hook at once: two phases, a calibrated scale, a mask, a dual variable, a companion, and the mean as a teacher."""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"forget", "retain", "reference"})

    def phase(self, step: int) -> str:
        return "even" if step % 2 == 0 else "odd"

    def prepare(self, models: Models, batches) -> dict[str, torch.Tensor]:
        batch = batches(-1)
        loss = F.mse_loss(models.student(batch.forget), models.reference(batch.forget.given(batch.null)))
        grads = torch.autograd.grad(loss, list(models.weights.values()), allow_unused=True)
        masks = {f"mask.{n}": g.abs() >= g.abs().median() for n, g in zip(models.weights, grads, strict=True)}
        return masks | {"scale": loss.detach(), "dual": torch.tensor(0.5)}

    def masks(self, notes):
        return {n.removeprefix("mask."): m for n, m in notes.items() if n.startswith("mask.")}

    def update(self, notes, terms):
        return {"dual": (notes["dual"] + 0.1 * terms["forget"]).clamp(min=0)}

    def companion(self, latent_shape):
        return nn.Sequential(nn.Conv2d(latent_shape[0], 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1))

    def __call__(self, models: Models, batch: Batch) -> Terms:
        x = batch.forget
        if self.phase(batch.step) == "odd":
            keep = F.mse_loss(models.student(batch.retain), batch.retain.goal)
            return {"forget": keep, "mean": 0.1 * F.mse_loss(models.student(x), models.ema(x))}
        said = models.student(x)
        return {
            "forget": F.mse_loss(said, models.reference(x.given(batch.null))) / models.notes["scale"],
            "fooled": models.notes["dual"] * models.fixed_companion(said).mean(),
            "critic": -models.companion(said.detach()).mean() + models.companion(x.goal).square().mean(),
        }


def run(folder: Path, method: Objective, watch=None, **training):
    concept = tiny.concept(anchor="sketch")
    return unlearn(tiny.model(), concept, method, training=training, out=folder, cache=Store.default(), progress=tiny.watching(watch))


VARIANTS = {
    "every hook and a mean": (Everything(), {"ema": 0.5}),
    "every hook, low rank": (Everything("xattn-lora"), {"ema": 0.5}),
    "low rank": (Plain("xattn-lora"), {}),
    "every part": (Plain(), {}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def straight(request, tmp_path_factory) -> tuple[str, Path]:
    """A run that nothing disturbed: its variant and its folder."""
    method, training = VARIANTS[request.param]
    return request.param, run(tmp_path_factory.mktemp("straight") / "run", method, **training).folder


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_where_a_straight_one_does(straight, stop, tmp_path):
    """Stopped at 1 only the notes are there; at 3 a checkpoint of step 2 in the midst of the phases."""
    variant, folder = straight
    method, training = VARIANTS[variant]
    torch.manual_seed(99)  # nothing may depend on what else has drawn random numbers
    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", method, stop_after(stop), **training)
    resumed = run(tmp_path / "resumed", method, **training).folder
    for file in ("delta.safetensors", "log.jsonl"):
        assert (resumed / file).read_bytes() == (folder / file).read_bytes()
    assert sorted(p.name for p in resumed.glob("[!.]*")) == ["card.json", "config.toml", "delta.safetensors", "log.jsonl"]


def test_a_resumed_run_reads_its_notes(tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        run(tmp_path / "run", Everything(), stop_after(1), ema=0.5)
    monkeypatch.setattr(Everything, "prepare", lambda *_: pytest.fail("prepared a second time"))
    run(tmp_path / "run", Everything(), ema=0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, torch.Tensor]:
    return run(tmp_path_factory.mktemp("whole") / "run", Plain()).delta()


@pytest.mark.parametrize("parts", [2, 4])
def test_an_accumulated_batch_is_the_batch(whole, tmp_path, parts):
    cut = run(tmp_path / "cut", Plain(), accumulate=parts).delta()
    for name, value in cut.items():
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=2e-5)


def trainer(method: Objective, **training) -> Trainer:
    settings, model = Training(**tiny.TRAINING | training), tiny.model()
    batches = gather(tiny.session(model), tiny.concept(), method.needs, settings, 0)
    return Trainer(tiny.session(model), method, settings, batches, TrainState(model, method.scope, 0, settings.ema))


def test_masked_entries_do_not_move():
    made = trainer(Everything(), ema=0.5)
    list(made.fit())
    for name, parameter in made.state.trained.items():
        mask, moved = made.hooks.notes[f"mask.{name}"], parameter != made.state.initial[name]
        assert 0 < mask.sum() < mask.numel()
        assert torch.equal(moved & ~mask, torch.zeros_like(mask))
        assert moved.any()


def test_a_mask_comes_before_the_norm():
    """Clipping before masking would let what is held decide how far the rest may go."""

    class Half(Plain):
        def masks(self, notes):
            return {n: torch.zeros(w.shape, dtype=torch.bool) for n, w in tiny.model().scope(SCOPES["xattn-kv"]).items()}

    assert next(trainer(Half()).fit()).grad_norm == 0


@dataclass(frozen=True)
class Slopes(Plain):
    """A loss whose gradient is known: 1 in even steps, -1 in odd ones."""

    phases: bool = True

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def phase(self, step: int) -> str:
        return ("up", "down")[step % 2] if self.phases else "one"

    def __call__(self, models: Models, batch: Batch) -> Terms:
        return {"slope": (1 - 2 * (batch.step % 2)) * sum(w.sum() for w in models.weights.values())}


@pytest.mark.parametrize("phases", [True, False])
def test_each_phase_has_its_own_moments(phases):
    """Adam's first step is lr in the gradient's direction, so with moments of their own two phases cancel.

    Shared, the second step is that of m = (0.9 * 0.1 - 0.1) / (1 - 0.81) = -0.01 / 0.19, with v's correction 1: it goes back only
    0.0526 of the way. A released method alternates under one optimizer.
    """
    made = trainer(Slopes(phases=phases), lr=0.01, schedule="constant", steps=2, max_grad_norm=1e9)
    list(made.fit())
    for name, w in made.state.trained.items():
        expected = 0.0 if phases else -0.01 + 0.01 * 0.01 / 0.19
        torch.testing.assert_close(w - made.state.initial[name], torch.full_like(w, expected), rtol=1e-3, atol=1e-6)


def test_a_step_is_adams_by_hand():
    """Slopes 1 and 2 under betas 0.9 and 0.999: m = (0.09 + 0.2) / 0.19 and v = (0.000999 + 0.004) / 0.001999."""

    class Steeper(Slopes):
        def __call__(self, models: Models, batch: Batch) -> Terms:
            return {"slope": (1 + batch.step) * sum(w.sum() for w in models.weights.values())}

    made = trainer(Steeper(phases=False), lr=0.01, schedule="constant", steps=2, max_grad_norm=1e9)
    list(made.fit())
    for name, w in made.state.trained.items():
        gone = -0.01 * (1 + (0.29 / 0.19) / (0.004999 / 0.001999) ** 0.5)
        torch.testing.assert_close(w - made.state.initial[name], torch.full_like(w, gone), rtol=0, atol=5e-7)


def test_the_mean_is_that_of_the_steps_by_hand():
    """One step of -0.01, then one of as much again: the mean of 0.75 has gone 0.25 * 0.01, then three quarters of it and 0.25 * 0.02."""

    class Down(Slopes):
        def __call__(self, models: Models, batch: Batch) -> Terms:
            return {"slope": sum(w.sum() for w in models.weights.values())}

    made = trainer(Down(phases=False), lr=0.01, schedule="constant", steps=2, max_grad_norm=1e9, ema=0.75)
    list(made.fit())
    for name, value in made.state.delta().items():
        gone = -(0.75 * 0.25 * 0.01 + 0.25 * 0.02)
        torch.testing.assert_close(value - made.state.initial[name], torch.full_like(value, gone), rtol=1e-3, atol=1e-6)


def test_the_mean_is_a_network_without_gradient():
    made = trainer(Plain(), ema=0.5)
    x = made.batches(0).forget
    before = made.models.ema(x)
    torch.testing.assert_close(before, made.models.reference(x), rtol=1e-4, atol=1e-5)
    next(made.fit())
    assert not made.models.ema(x).requires_grad
    assert not torch.equal(made.models.ema(x), before)
    with raises_error("no-ema", 0, "--ema 0.99"):
        trainer(Plain()).models.ema(x)


def test_low_rank_adds_low_rank_to_the_matching_weights_alone(tmp_path):
    model = tiny.model()
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    scope = SCOPES["xattn-lora"]
    delta = unlearn(model, tiny.concept(), Plain("xattn-lora"), out=tmp_path / "run", cache=Store.default()).delta()
    assert set(delta) == {n for n, p in before.items() if ".attn2." in n and p.ndim == 2}
    for name, value in delta.items():
        sizes = torch.linalg.svdvals((value - before[name]).double())
        assert sizes[0] > 1e-4
        assert (sizes[scope.rank :] < 1e-3 * sizes[0]).all()
    assert all(torch.equal(p, before[n]) and p.requires_grad for n, p in model.network.named_parameters())


def test_low_rank_starts_at_the_untouched_model():
    made = trainer(Plain("xattn-lora"))
    x = made.batches(0).forget
    torch.testing.assert_close(made.student(x), made.reference(x), rtol=1e-5, atol=1e-6)
    assert made.state.relative_change() == 0
    other = TrainState(tiny.model(), SCOPES["xattn-lora"], seed=1)
    name = next(n for n in made.state.trained if n.endswith(".A"))
    assert not torch.equal(other.trained[name], made.state.trained[name])
    assert made.state.initial[name].std().item() * made.state.initial[name].shape[1] ** 0.5 == pytest.approx(1, abs=0.2)


def test_low_ranks_gradient_is_that_of_the_merged_weights_by_the_chain_rule():
    """W = W_0 + B A, so dL/dA = B^T dL/dW and dL/dB = dL/dW A^T."""
    made = trainer(Plain("xattn-lora"))
    with torch.no_grad():
        for p in made.state.trained.values():
            p += 0.05 * torch.randn_like(p)
    x = made.batches(0).forget
    made.student(x).square().mean().backward()
    merged = {n: w.detach().requires_grad_() for n, w in made.state.merged(made.state.trained).items()}
    slopes = torch.autograd.grad(made.batches.model.predict(x, merged).square().mean(), list(merged.values()))
    for name, slope in zip(merged, slopes, strict=True):
        a, b = made.state.trained[f"{name}.A"], made.state.trained[f"{name}.B"]
        torch.testing.assert_close(a.grad, b.detach().mT @ slope, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(b.grad, slope @ a.detach().mT, rtol=1e-3, atol=1e-6)


def test_low_rank_computes_again_with_its_factors(tmp_path):
    """With the network's own weights the gradient would be another, and nothing would say so."""
    plain, checkpointed = (run(tmp_path / str(again), Plain("xattn-lora"), gradient_checkpointing=again) for again in (False, True))
    for name, value in plain.delta().items():
        torch.testing.assert_close(checkpointed.delta()[name], value, rtol=0, atol=0)


def test_what_is_computed_again_is_under_the_weights_of_its_own_call():
    """Two calls under other factors, and one backward pass after both; then a second through the same graph."""
    model = tiny.model()
    point = trainer(Plain("xattn-lora")).batches(0).forget
    states = [TrainState(model, SCOPES["xattn-lora"], seed) for seed in (1, 2)]
    for state in states:
        for factor in state.trained.values():
            factor.data = factor.data + 0.05 * torch.randn_like(factor)

    def slopes(recomputes: bool) -> list[torch.Tensor]:
        with model.as_trained(recomputes):
            loss = sum(model.predict(point, state.called(state.trained)).square().mean() * (i + 1) for i, state in enumerate(states))
            parameters = [p for state in states for p in state.trained.values()]
            first = torch.autograd.grad(loss, parameters, retain_graph=True)
            assert all(map(torch.equal, first, torch.autograd.grad(loss, parameters)))
            return list(first)

    for plain, again in zip(slopes(False), slopes(True), strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(again, plain, rtol=0, atol=0)


@dataclass(frozen=True)
class Wrong(Plain):
    """Each mistake that a hook can make."""

    mistake: Annotated[int, Ge(0)] = 0

    def prepare(self, models: Models, batches) -> dict[str, torch.Tensor]:
        if self.mistake == 0:
            models.student(batches(0).forget).sum().backward()
        return {"scale": torch.tensor(1.0)}

    def update(self, notes, terms):
        return {1: {"other": torch.zeros(())}, 2: {"scale": torch.zeros(3)}}.get(self.mistake, {})

    def masks(self, notes):
        return {3: {"other": torch.ones(1, dtype=torch.bool)}, 4: {MASKED: torch.ones(1, dtype=torch.bool)}}.get(self.mistake, {})

    def phase(self, step: int) -> str:
        return "a.b" if self.mistake == 5 else "train"


MASKED = next(iter(tiny.model().scope(SCOPES["xattn-kv"])))
MISTAKES = [
    ("gradient-left", None),  # on every tensor
    ("unknown-note", "other"),
    ("unknown-note", "scale"),
    ("mask-of-tensor", "other"),
    ("mask-of-tensor", MASKED),
    ("phase-name", "a.b"),
]


@pytest.mark.parametrize("mistake", range(len(MISTAKES)))
def test_a_hook_that_names_what_is_not_there_is_an_error(mistake):
    with pytest.raises(ExpungeError) as error:
        next(trainer(Wrong(mistake=mistake)).fit())
    rule, value = MISTAKES[mistake]
    assert error.value.rule == rule
    assert error.value.value == value or (mistake == 0 and len(error.value.value) > 1)
    assert error.value.hint.startswith("Try ")


def test_the_companion_is_trained_but_not_kept():
    made = trainer(Everything(), ema=0.5)
    before = {n: p.clone() for n, p in made.hooks.companion.named_parameters()}
    list(made.fit())
    assert all(not torch.equal(p, before[n]) for n, p in made.hooks.companion.named_parameters())
    assert set(made.state.delta()) == set(tiny.model().scope(SCOPES["xattn-kv"]))
    assert not any(name.startswith(("0.", "2.")) for name in made.state.delta())


def test_a_fixed_companion_gets_no_gradient():
    companion = nn.Linear(2, 1)
    models = Models(lambda point: point.x_t, lambda point: point.x_t, companion=companion)
    x = torch.ones(3, 2, requires_grad=True)
    models.fixed_companion(x).sum().backward()
    assert torch.equal(x.grad, companion.weight.detach().expand(3, 2))
    assert companion.weight.grad is None
