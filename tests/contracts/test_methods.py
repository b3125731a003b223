"""What every registered method promises, before its author writes a test."""

import inspect
import re
import tomllib

import pytest
import tiny
import torch
from raising import raises_error

from expunge import config
from expunge.cli.output import first_sentence
from expunge.cli.settings_help import settings_of
from expunge.diffusion.batch import LEADS, Batch
from expunge.diffusion.types import Point
from expunge.errors import UndeclaredNeed
from expunge.methods import METHODS
from expunge.methods.base import Edit, Objective, Training
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.networks import Student
from expunge.training.state import TrainState

OBJECTIVES = {name: cls for name, cls in METHODS.items() if issubclass(cls, Objective)}
FEW = tiny.TRAINING | {"steps": 3}
TRAINING = Training(**FEW)
SHORT: dict[str, dict] = {"salun": {"mask_batches": 1}, "selective-amnesia": {"fisher_points": 16}}
"""Settings of methods that pass over many points before they train."""


@pytest.fixture(autouse=True)
def few_words(monkeypatch):
    """Are compared with the concept's name, and few prompts preserved: encoding hundreds takes longer than training."""
    monkeypatch.setattr("expunge.training.anything.COMPARED", 16)
    monkeypatch.setattr("expunge.training.beginning.RETAINED", 16)


def prepared(name, needs=None):
    model, method = tiny.model(), METHODS[name](**SHORT.get(name, {}))
    batches = gather(tiny.session(model), tiny.concept(), method.needs if needs is None else needs, TRAINING, 0)
    state = TrainState(model, method.scope)
    return model, method, batches, state


def ready(method, batches, state):
    """The models that the trainer gives, with what the method prepares of its own batches."""
    trainer = Trainer(tiny.session(batches.model), method, TRAINING, batches, state)
    trainer.hooks.notes = method.prepare(trainer.models, batches)
    return trainer.models


def a_point(batch: Batch) -> Point:
    """Of whichever part there is."""
    return next(batch.parts[need] for need in (*LEADS, "retain") if need in batch.parts)


@pytest.mark.parametrize("name", METHODS)
def test_its_docstring_begins_with_a_short_summary(name):
    """One sentence that names the technique in at most 14 words, which lists and help pages show."""
    summary = first_sentence(METHODS[name].__doc__ or "")
    assert len(summary.split()) <= 14
    assert summary[:1].isupper()
    assert summary.endswith(".")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_are_finite_scalars_that_reach_the_whole_scope(name):
    model, method, batches, state = prepared(name)
    models = ready(method, batches, state)
    with torch.no_grad():
        for factor in (p for n, p in state.trained.items() if method.scope.rank and n.endswith(".B")):
            factor += 0.01 * torch.randn_like(factor)  # at zero no gradient reaches the other factor
    terms = method(models, batches(0))
    assert terms
    assert all(t.shape == () and torch.isfinite(t) for t in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in state.trained.values())
    assert all(p.grad is None for n, p in model.network.named_parameters() if n not in state.trained)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_declared_need_is_necessary(name):
    needs = OBJECTIVES[name]().needs
    for need in needs - {"reference"}:
        _, method, batches, state = prepared(name, needs - {need})
        trainer = Trainer(tiny.session(batches.model), method, TRAINING, batches, state)
        with raises_error("undeclared-need", need) as caught:
            list(trainer.fit())  # all steps: a method that alternates reads a part in some
        assert isinstance(caught.value, UndeclaredNeed)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_scope_moves_and_the_reference_stays(name):
    model, method, batches, state = prepared(name)
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    point, student = a_point(batches(0)), Student(model, state)
    with torch.no_grad():
        untouched = model.predict(point)
    trainer = Trainer(tiny.session(batches.model), method, TRAINING, batches, state)
    assert [s.step for s in trainer.fit()] == list(range(1, TRAINING.steps + 1))
    with torch.no_grad():
        assert not torch.equal(student(point), untouched)
        torch.testing.assert_close(model.predict(point, state.reference), untouched, rtol=0, atol=0)
    moved = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
    changed = {n for n, w in state.delta().items() if not torch.equal(w, before[n])}
    held = {n for n, mask in method.masks(trainer.hooks.notes).items() if not mask.any()}
    assert changed == set(model.scope(method.scope)) - held
    assert moved == (set() if method.scope.rank else changed)
    state.release()
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_run_changes_the_scope_and_leaves_the_model_as_it_was(name, tmp_path):
    model = tiny.model()
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    training = None if issubclass(METHODS[name], Edit) else FEW
    settings = SHORT.get(name, {})
    run = unlearn(model, tiny.concept(), name, training=training, out=tmp_path / "run", cache=Store.default(), **settings)
    assert run.card["relative_change"] > 0
    assert set(run.delta(model.fingerprint)) == set(model.scope(METHODS[name]().scope))
    assert all(torch.equal(p, before[n]) and p.requires_grad for n, p in model.network.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_its_configuration_round_trips_through_toml(name):
    method = METHODS[name]()
    table = tomllib.loads(config.to_toml(config.settings(method)))
    assert config.build(METHODS[name], table, name) == method


@pytest.mark.parametrize("name", METHODS)
def test_its_documentation_names_the_source_and_every_field(name):
    assert re.search(r"arXiv \d{4}\.\d{5}|OpenReview \w{10}", inspect.getdoc(METHODS[name]))
    assert [s.name for s in settings_of(METHODS[name]) if not s.about] == []


@pytest.mark.parametrize("name", METHODS)
def test_the_same_plan_has_the_same_id_and_any_setting_another(name):
    model, concept = tiny.model(), tiny.concept()
    plan = make_plan(model, concept, name)
    assert make_plan(model, concept, name).id == plan.id
    others = [make_plan(model, concept, name, seed=1), make_plan(model, tiny.concept("ring"), name)]
    others += [make_plan(model, tiny.concept("neon", synonyms=("glow",)), name), make_plan(tiny.model(1), concept, name)]
    assert len({plan.id, *(o.id for o in others)}) == 5
