"""Several methods that remove one concept in turn: each begins where the one before ended, and all learn from the untouched model."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from cli.commandline import say, unpriced
from raising import raises_error
from test_several import TRAINING, Interrupted, made, several

import expunge.runs.unlearn
from expunge.bench.config import make_suite
from expunge.bench.runner import plan_of
from expunge.bench.suite import Unit
from expunge.cli.config_file import read_config
from expunge.config import to_toml
from expunge.evaluation.early_stopping import Gone
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.methods._closed_form import eraser
from expunge.methods.config import Layer
from expunge.methods.uce import UCE
from expunge.models.scopes import SCOPES
from expunge.reports.charts.sequence import course_of
from expunge.reports.pages.sections import run_settings
from expunge.reports.run_view import read_view
from expunge.runs.compose import compose
from expunge.runs.cost import price
from expunge.runs.plan import make_plan
from expunge.runs.unlearn import carry_out
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.edit_prompts import edit_prompts
from expunge.training.networks import Reference

WIDE = {"method": {"name": "random-label", "variant": "full"}, "training": tiny.TRAINING | {"steps": 3, "whiten": 0.0}}
"""All weights, those outside cross-attention too."""
UNTRAINED = {"method": {"name": "uce"}}


def own(model) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.network.named_parameters()}


def test_the_first_is_the_run_of_its_method_alone(tmp_path):
    run = made(tmp_path / "run", tiny.concept(), "mim-mu", before=[WIDE])
    alone = made(tmp_path / "alone", tiny.concept(), "random-label", variant="full", training=WIDE["training"])
    assert run.stages[0].id == alone.id
    for file in ("delta.safetensors", "config.toml", "log.jsonl"):
        assert (run.stages[0].folder / file).read_bytes() == (alone.folder / file).read_bytes()
    assert [s.folder.name for s in run.stages] == ["01-random-label-neon", "02-mim-mu-neon"]


@pytest.mark.parametrize("last", ["mim-mu", "spm", "uce"])
def test_a_later_method_begins_where_the_one_before_ended_and_keeps_what_lies_outside_its_scope(tmp_path, last, monkeypatch):
    """Tensors, factors or a closed form. What it does not touch is in the network while it works, and in the result as it was."""
    begun = {}
    real = expunge.training.state.TrainState

    def spied(net, *rest):
        state = real(net, *rest)
        begun.update({n: p.detach().clone() for n, p in net.network.named_parameters()} | state.start)
        return state

    model = tiny.model()
    untouched = own(model)
    monkeypatch.setattr(expunge.runs.unlearn, "TrainState", spied)
    run = made(tmp_path / "run", tiny.concept(), last, model=model, before=[WIDE])
    first, result = run.stages[0].delta(), run.delta()
    assert all(torch.equal(begun[n], w) for n, w in first.items())
    outside = [n for n in first if ".attentions." not in n]
    assert any(not torch.equal(first[n], untouched[n]) for n in outside)
    assert all(torch.equal(result[n], first[n]) for n in outside)
    assert any(not torch.equal(result[n], first[n]) for n in first if ".attn2." in n)
    assert set(result) == set(first)
    assert all(torch.equal(p, untouched[n]) for n, p in model.network.named_parameters())  # given back as it was
    assert run.card["scope"] == f"full + {run.stages[1].card['scope']}"
    assert run.card["trainable"] == run.stages[0].card["trainable"]


def test_a_wider_method_after_a_narrower_one(tmp_path):
    run = made(tmp_path / "run", tiny.concept(), "random-label", variant="full", training=WIDE["training"], before=[UNTRAINED])
    edited, result, untouched = run.stages[0].delta(), run.delta(), own(tiny.model())
    assert set(edited) < set(result) == set(untouched)
    alone = made(tmp_path / "alone", tiny.concept(), "random-label", variant="full", training=WIDE["training"]).delta()
    for name, weight in edited.items():  # a few short steps from the edit are not those from the untouched weights
        assert (result[name] - weight).norm() < (result[name] - alone[name]).norm()


@pytest.mark.parametrize("last", ["mim-mu", "esd"])
def test_all_learn_from_the_untouched_model(tmp_path, last, monkeypatch):
    """Its predictions and its pictures, bit for bit, though other weights than those that are trained differ too."""
    found = []
    real, gathered = expunge.training.state.TrainState, expunge.training.batches.gather
    monkeypatch.setattr(expunge.runs.unlearn, "gather", lambda *a: found.append([gathered(*a)]) or found[-1][0])
    monkeypatch.setattr(expunge.runs.unlearn, "TrainState", lambda *a: found[-1].append(real(*a)) or found[-1][1])
    asked = []
    answer = Reference.__call__
    monkeypatch.setattr(Reference, "__call__", lambda self, point: asked.append((point, answer(self, point))) or asked[-1][1])
    made(tmp_path / "run", tiny.concept(), last, before=[WIDE])
    untouched = tiny.model()
    batches, state = found[-1]
    assert all(torch.equal(state.reference[n], w) for n, w in own(untouched).items() if n in state.reference)
    assert any(".attn2." not in n for n in state.reference)
    fresh = gather(tiny.session(untouched, Store(tmp_path / "fresh")), tiny.concept(), batches.needs, TRAINING, 0)
    for need, bank in fresh.banks.items():
        assert torch.equal(bank.points.x_t, batches.banks[need].points.x_t)
    point, said = asked[-1]
    with torch.no_grad():
        torch.testing.assert_close(said, untouched.predict(point), rtol=1e-5, atol=1e-6)  # in other batches


def test_a_closed_form_after_another_method_edits_what_that_left(tmp_path):
    run = made(tmp_path / "run", tiny.concept(), "uce", before=[WIDE])
    model, method = tiny.model(), UCE()
    [(_, prompts)] = edit_prompts(tiny.concept(), model, model.scope(SCOPES["entrance"]))
    states = (c.states.flatten(0, 1) for c in (prompts.target, prompts.goal, prompts.retain))
    factor = eraser(*states, method.erase_weight, method.preserve_weight, method.ridge)
    first, result = run.stages[0].delta(), run.delta()
    edited = [n for n in result if not torch.equal(first[n], result[n])]
    assert edited
    for name in edited:
        torch.testing.assert_close(result[name].double(), first[name].double() @ factor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 2)])
def test_a_resumed_run_ends_where_a_straight_one_does(tmp_path, stage, step):
    count = iter(range(1, 9))

    def watch(steps, start, total):
        number = next(count)
        for done, one in enumerate(steps, start + 1):
            yield one
            if (number, done) == (stage, step):
                raise Interrupted

    training = tiny.TRAINING | {"checkpoint_every": 2}
    way = {"before": [WIDE | {"training": training}], "training": training}
    straight = made(tmp_path / "straight", tiny.concept(), **way)
    with pytest.raises(Interrupted):
        made(tmp_path / "resumed", tiny.concept(), watch=watch, **way)
    resumed = made(tmp_path / "resumed", tiny.concept(), **way)
    for file in ("delta.safetensors", "log.jsonl", "config.toml"):
        assert (resumed.folder / file).read_bytes() == (straight.folder / file).read_bytes()


def test_who_watches_is_told_how_many_steps_each_method_has(tmp_path):
    told = []

    def watch(steps, done, total):
        told.append((done, total))
        return steps

    before = [WIDE | {"training": tiny.TRAINING | {"steps": 3}}, UNTRAINED]
    run = made(tmp_path / "run", tiny.concept(), watch=watch, before=before)
    assert told == [(0, 3), (0, 6)]
    assert run.card["steps_done"] == 9
    assert run.card["forwards"] == sum(s.card["forwards"] for s in run.stages)


def test_the_price_is_what_it_costs(tmp_path):
    model, store = tiny.model(), Store(tmp_path / "store")
    plan = make_plan(model, tiny.concept(), "mim-mu", training=tiny.TRAINING, before=[WIDE, "uce"])
    cost = price(plan, tiny.session(model, store))
    card = carry_out(plan, tiny.session(model, store), tmp_path / "run").card
    assert (card["forwards"], card["backwards"]) == (cost.forwards, cost.backwards)  # what the first draws the second finds


def test_in_a_sequence_every_concept_goes_by_every_method_and_later_ones_know_of_it(tmp_path):
    subject = several("neon", "ring", together="sequential")
    plan = make_plan(tiny.model(), subject, "mim-mu", training=tiny.TRAINING, before=["uce"])
    assert [(s.by, s.concept.target, [c.target for c in s.concept.removed]) for s in plan.stages] == [
        ("uce", "neon", []),
        ("mim-mu", "neon", []),
        ("uce", "ring", ["neon"]),
        ("mim-mu", "ring", ["neon"]),
    ]
    assert [s.start and s.start.run for s in plan.stages] == [None, *(s.id for s in plan.stages[:-1])]
    run = made(tmp_path / "run", subject, before=["uce"])
    assert [s["of"] for s in run.card["stages"]] == ["uce, neon", "mim-mu, neon", "uce, ring", "mim-mu, ring"]
    joint = make_plan(tiny.model(), several("neon", "ring"), "mim-mu", training=tiny.TRAINING, before=["uce"])
    assert [s.concept.target for s in joint.stages] == ["neon + ring"] * 2


def test_what_goes_before_is_a_part_of_what_makes_a_run():
    def plan(*before):
        return make_plan(tiny.model(), tiny.concept(), "mim-mu", before=before)

    for one in ("uce", UCE(), UNTRAINED, Layer(UCE(), None)):  # one alone needs no list
        assert make_plan(tiny.model(), tiny.concept(), "mim-mu", before=one).id == plan(one).id

    plans = [plan(), plan("uce"), plan("esd"), plan("uce", "esd"), plan({"method": {"name": "uce", "ridge": 2.0}})]
    assert len({p.id for p in plans}) == len(plans)
    assert plans[1].id == plan(UCE()).id == plan(UNTRAINED).id == plan(Layer(UCE(), None)).id
    assert plans[3].id.startswith("uce-then-esd-then-mim-mu-neon-")
    assert plans[0].stages == ()


@pytest.mark.parametrize(
    ("before", "rule", "value", "hint"),
    [
        ("uze", "unknown-method", "uze", "Try 'uce'"),
        ({"name": "uce"}, "unknown-key", "name", "one of method, training"),
        ({"training": {"steps": 3}}, "method-without-name", None, "config.toml"),
        ({"method": {"name": "uce"}, "training": {"steps": 3}}, "closed-form-trained", {"steps": 3}, "without training"),
        ({"method": {"name": "esd", "steps": 3}}, "setting-of-training", {"steps": 3}, "training={'steps': 3}"),
    ],
)
def test_what_cannot_go_before_is_refused(before, rule, value, hint):
    with raises_error(rule, value, hint):
        make_plan(tiny.model(), tiny.concept(), "mim-mu", before=[before])


def test_a_rule_that_ends_a_run_early_is_for_one_method():
    with raises_error("stop-with-before", 1):
        make_plan(tiny.model(), tiny.concept(), "mim-mu", before=["uce"], stop=Gone())


def test_where_the_concept_is_gone_already_is_no_reference():
    subject = several("neon", "ring", together="sequential", reference="previous")
    with raises_error("reference-with-before", "previous", "'original'"):
        make_plan(tiny.model(), subject, "mim-mu", before=["esd"])


def test_runs_of_several_methods_do_not_compose(tmp_path):
    both, alone = made(tmp_path / "both", tiny.concept(), "uce", before=[WIDE]), made(tmp_path / "alone", tiny.concept("ring"), "uce")
    with raises_error("compose-several-methods", "random-label then uce"):
        compose([both, alone], tmp_path / "never", tiny.model())


def test_a_runs_configuration_repeats_it_and_flags_say_what_goes_before(tmp_path, monkeypatch):
    def dry(*arguments):
        said = say("unlearn", *arguments, "--device", "cpu", "--dry-run")
        assert said.code == 0, said.err
        return said.out

    asked = ("--target", "ring", "--steps", 3, "--points", 32, "--pictures", 16)
    shown = dry("mim-mu", "--before", "uce", *asked)
    assert "uce then mim-mu on canvas" in shown
    assert all(line in shown for line in ("uce, ring", "mim-mu, ring", "total"))
    unpriced(monkeypatch)
    plan = make_plan(tiny.model(), tiny.concept("ring"), "mim-mu", before=[WIDE, "uce"])
    file = tmp_path / "config.toml"
    file.write_text(to_toml(plan.tables | {"model": {"name": "canvas", "dtype": "fp32"}}))
    assert read_config(file)["before"] == json.loads(json.dumps([layer.tables for layer in plan.before]))
    assert "random-label then uce then mim-mu on canvas" in dry("--config", file)
    assert "uce then mim-mu on canvas" in dry("--config", file, "--before", "uce")  # flags lie over it
    assert "esd on canvas" in dry("esd", "--config", file)  # another method takes nothing of it
    assert "mim-mu then esd on canvas" in dry("esd", *asked[:2], "--before", "relearn-tested")
    refusal = say("unlearn", "esd", *asked[:2], "--before", file).refusal
    assert (refusal.rule, refusal.value) == ("nested-before", str(file))
    file.write_text('before = "uce"\n[method]\nname = "esd"\n')
    refusal = say("unlearn", "--config", file, "--target", "ring").refusal
    assert (refusal.rule, refusal.value) == ("wrong-type", "uce")
    file.write_text('[[before]]\nmethods = "uce"\n[method]\nname = "esd"\n')
    refusal = say("unlearn", "--config", file, "--target", "ring").refusal
    assert (refusal.rule, refusal.value) == ("unknown-key", "methods")
    assert refusal.hint.startswith("Try 'method'")


def test_a_suite_measures_them_and_its_other_units_stay_what_they_were():
    table = {"concepts": ["ring"], "methods": [{"name": "uce"}, {"name": "uce", "label": "both", "before": ["mim-mu"]}]}
    plain, both = make_suite(table, "s").units
    [alone] = make_suite(table | {"methods": [{"name": "uce"}]}, "s").units
    assert plain.id == alone.id != both.id
    assert plan_of(Unit.from_json(both.to_json()), tiny.model()).by == "mim-mu then uce"
    assert plan_of(plain, tiny.model()).before == ()
    for odd in ("mim-mu", [3]):
        with raises_error("invalid-before", odd):
            make_suite({"concepts": ["ring"], "methods": [{"name": "uce", "before": odd}]}, "s")


def test_each_methods_share_is_measured_and_shown(tmp_path):
    run = made(tmp_path / "run", tiny.concept(), "uce", before=[WIDE])
    few = Protocol(prompts=2, target_seeds=1)
    rows = evaluate(run, tiny.model(), judge="main", cache=Store(tmp_path / "store"), metrics=["UA"], protocol=few)
    assert {r.run for r in rows} == {"base", run.id, *(s.id for s in run.stages)}
    assert {r.method for r in rows if r.run == run.id} == {"random-label then uce"}
    shown = read_view(Path(run.folder))
    assert (shown.card.method, [stage.of for stage in shown.card.stages]) == ("random-label then uce", ["random-label", "uce"])
    assert {("1. method.name", "random-label"), ("1. training.steps", "3"), ("ridge", "0.5")} <= set(run_settings(shown.card))
    found = course_of(shown)
    assert found is not None
    assert found.stages == ("random-label", "uce")
    assert [(line.target, len([v for v in line.values if v])) for line in found.lines] == [("neon", 2)]
