"""What every registered method promises, before its author writes a test."""

import ast
import dataclasses
import inspect
import itertools
import tomllib

import pytest
import tiny
import torch

from expunge import config
from expunge.cache import Store
from expunge.data import gather
from expunge.methods import METHODS
from expunge.objective import Edit, Objective, Training
from expunge.plan import make_plan
from expunge.run import unlearn
from expunge.train import Trainer
from expunge.types import Models, UndeclaredNeed
from expunge.weights import Memo, Reference, Student, TrainState

OBJECTIVES = {name: cls for name, cls in METHODS.items() if issubclass(cls, Objective)}
TRAINING = Training(**tiny.TRAINING)


def prepared(cls, tmp_path, needs=None):
    denoiser, method, memo = tiny.denoiser(), cls(), Memo()
    batches = gather(denoiser, tiny.concept(), method.needs if needs is None else needs, TRAINING, 0, Store(tmp_path), memo)
    state = TrainState(denoiser.net, method.scope)
    return denoiser, method, batches, state, memo


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_are_finite_scalars_that_reach_the_whole_scope(name, tmp_path):
    denoiser, method, batches, state, memo = prepared(OBJECTIVES[name], tmp_path)
    terms = method(Models(Student(denoiser), Reference(denoiser, state, memo)), batches(0))
    assert terms
    assert all(t.shape == () and torch.isfinite(t) for t in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in state.trained.values())
    assert all(p.grad is None for n, p in denoiser.net.named_parameters() if n not in state.trained)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_declared_need_is_necessary(name, tmp_path):
    cls = OBJECTIVES[name]
    for need in cls().needs - {"reference"}:
        denoiser, method, batches, state, memo = prepared(cls, tmp_path, cls().needs - {need})
        with pytest.raises(UndeclaredNeed, match=need):
            method(Models(Student(denoiser), Reference(denoiser, state, memo)), batches(0))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_scope_moves_and_the_reference_stays(name, tmp_path):
    denoiser, method, batches, state, memo = prepared(OBJECTIVES[name], tmp_path)
    before = {n: p.detach().clone() for n, p in denoiser.net.named_parameters()}
    trainer = Trainer(method, TRAINING, batches, state, memo)
    point = batches(0).forget if "forget" in method.needs else batches(0).trajectory
    with torch.no_grad():
        untouched = denoiser(point)
    assert [s.step for s in trainer.fit()] == list(range(1, TRAINING.steps + 1))
    with torch.no_grad():
        assert not torch.equal(denoiser(point), untouched)
        torch.testing.assert_close(denoiser(point, state.initial), untouched, rtol=0, atol=0)
    moved = {n for n, p in denoiser.net.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(state.trained)
    state.release()
    assert all(torch.equal(p, before[n]) for n, p in denoiser.net.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_run_changes_the_scope_and_leaves_the_model_as_it_was(name, tmp_path):
    denoiser = tiny.denoiser()
    before = {n: p.detach().clone() for n, p in denoiser.net.named_parameters()}
    training = None if issubclass(METHODS[name], Edit) else tiny.TRAINING
    run = unlearn(denoiser, tiny.concept(), name, training=training, out=tmp_path / "run", store=Store(tmp_path / "store"))
    assert run.card["relative_change"] > 0
    assert set(run.delta(denoiser.fingerprint)) == set(METHODS[name]().scope.parameters(denoiser.net))
    assert all(torch.equal(p, before[n]) and p.requires_grad for n, p in denoiser.net.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_its_configuration_round_trips_through_toml(name):
    method = METHODS[name]()
    table = tomllib.loads(config.to_toml(config.settings(method)))
    assert config.build(METHODS[name], table, name) == method


@pytest.mark.parametrize("name", METHODS)
def test_its_documentation_names_the_source_and_every_field(name):
    cls = METHODS[name]
    assert "arXiv" in inspect.getdoc(cls)
    body = ast.parse(inspect.getsource(cls)).body[0].body
    described = {
        a.target.id for a, b in itertools.pairwise(body)
        if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant)
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(cls)} <= described


@pytest.mark.parametrize("name", METHODS)
def test_the_same_plan_has_the_same_id_and_any_setting_another(name):
    denoiser, concept = tiny.denoiser(), tiny.concept()
    plan = make_plan(denoiser, concept, name)
    assert make_plan(denoiser, concept, name).id == plan.id
    others = [make_plan(denoiser, concept, name, seed=1), make_plan(denoiser, tiny.concept("ring"), name)]
    others += [make_plan(denoiser, tiny.concept("neon", synonyms=("glow",)), name), make_plan(tiny.denoiser(1), concept, name)]
    assert len({plan.id, *(o.id for o in others)}) == 5
