"""Several concepts in one run: all at once, one after another, and runs made apart put together."""

import itertools
import json
from dataclasses import replace
from unittest.mock import ANY

import apart
import pytest
import tiny
import torch
from invariants.test_runs import Interrupted
from raising import raises_error
from tastes import TASTES

import expunge.runs.unlearn
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several
from expunge.concepts.tables import concept_from, concept_table
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.diffusion.types import Cond, Point
from expunge.errors import ExpungeError
from expunge.methods._closed_form import eraser
from expunge.methods.base import EditPrompts, Training
from expunge.methods.uce import UCE
from expunge.models.scopes import SCOPES
from expunge.runs.compose import compose
from expunge.runs.cost import price
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import carry_out, unlearn
from expunge.storage.cache import Store
from expunge.training.banks import surviving
from expunge.training.batches import gather, picks, picks_of_each
from expunge.training.edit_prompts import edit_prompts
from expunge.training.networks import Reference, ReferenceCache

TRAINING = Training(**tiny.TRAINING)
NAMES = ("neon", "ring", "dots")


def several(*names: str, **way) -> Several:
    return Several.of([tiny.concept(n) for n in names or NAMES], **way)


def made(folder, concept, method="mim-mu", watch=None, model=None, training=tiny.TRAINING, **settings) -> Run:
    training = None if method == "uce" else training
    return unlearn(
        model or tiny.model(), concept, method, training=training, out=folder, cache=Store(folder.parent / "store"),
        progress=tiny.watching(watch),
        **settings,
    )  # fmt: skip


# --- what is said of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("neon", "ring"), NAMES, ("neon", "outline", "sketch", "blueprint"), ("glow", "hoop", "disc")])
def test_no_prompt_of_a_concept_names_another_of_them(names):
    """Neither as a partner, a stand-in or a sibling, nor among what is retained or probed. Alone, each of them has such prompts."""
    subject = several(*names)
    for concept in subject.parts:
        others = {n for c in subject.parts if c is not concept for n in c.known}

        def names_another(text: str, others=others) -> bool:
            return bool(others & set(text.split()))

        for p in concept.forget():
            assert not any(map(names_another, (p.prompt, p.context, p.anchor, *p.marginals, *p.siblings)))
        assert not any(names_another(p) for p in concept.retain())
        assert not any(names_another(p.prompt) for probe in concept.probes().values() for p in probe)
        alone = replace(concept, removed=())
        assert any(names_another(p) for p in alone.retain())
        assert len(concept.others) == len(alone.others) - sum(c.kind == concept.kind for c in concept.removed)
        assert len(concept.partners) == len(alone.partners) - sum(c.kind != concept.kind for c in concept.removed)
    every = {n for c in subject.parts for n in c.known}
    assert not any(every & set(p.split()) for p in surviving(subject))
    assert len(set(surviving(subject))) == len(surviving(subject))
    assert "" in surviving(subject)


def test_a_concept_inside_another_name_is_no_stand_in():
    """As "Monet" in "Monet's garden": for one concept `surviving` sees to what is retained, here marginals and partners count too."""
    inks, rings = (tuple(map(Member, names)) for names in (("ink", "ring ink", "chalk"), ("ring", "key ring", "box", "Ringo")))
    painters = Kind("style", "{target} style", "a {partner} in {target} style", "object", inks)
    things = Kind("object", "a {target}", "a {target} in {partner} style", "style", rings)
    world = Vocabulary({"style": painters, "object": things})
    ink, ring = Several.of([Concept.find("ink", world), Concept.find("ring", world)]).parts
    assert [m.name for m in ink.others] == ["chalk"]
    assert [m.name for m in ink.partners] == ["box", "Ringo"]
    assert [m.name for m in ring.others] == ["key ring", "box", "Ringo"]
    assert [m.name for m in ring.partners] == ["chalk"]


def test_forget_prompts_are_the_union():
    subject = several()
    assert [p.concept for p in subject.forget()] == [c.target for c in subject.parts for _ in c.forget()]
    assert subject.names == NAMES
    assert subject.bare == ("neon style", "a ring", "dots style")
    assert subject.target == "neon + ring + dots"
    assert several(together="sequential").target == "neon then ring then dots"


@pytest.mark.parametrize(
    ("concepts", "rule", "value", "hint"),
    [
        ([tiny.concept("neon")], "too-few-concepts", 1, "--target"),
        ([tiny.concept("neon"), tiny.concept("neon")], "concept-twice", ("neon", "neon"), "--synonym"),
        ([tiny.concept("neon"), tiny.concept("ring"), tiny.concept("glow")], "concept-twice", ("neon", "glow"), "--synonym"),
        ([tiny.concept("neon", synonyms=("dots",)), tiny.concept("dots")], "shared-name", "dots", ""),
        ([tiny.concept("ring"), tiny.concept("neon", synonyms=("hoop",))], "shared-name", "hoop", ""),
        ([tiny.concept("neon", anchor="dots"), tiny.concept("dots")], "removed-anchor", "dots", "another anchor"),
        ([tiny.concept("neon", anchor="a polka thing"), tiny.concept("dots")], "removed-anchor", "a polka thing", ""),
        ([tiny.concept("neon"), Concept.find("sweet", TASTES)], "different-vocabularies", ("neon", "sweet"), "--vocabulary"),
    ],
    ids=str,
)
def test_what_cannot_be_removed_together(concepts, rule, value, hint):
    with raises_error(rule, value, hint):
        Several.of(concepts)


def test_unknown_ways_and_references():
    with raises_error("unknown-together", "both", "one of joint, sequential"):
        several(together="both")
    with raises_error("unknown-reference", "next", "one of original, previous"):
        several(together="sequential", reference="next")
    with raises_error("reference-without-stages", "previous", "--sequential"):
        several(reference="previous")


def test_several_know_how_they_are_removed():
    """What is said beside, to `unlearn`, is theirs too or refused, not left out in silence."""
    subject = several(together="sequential", reference="previous")
    assert make_plan(tiny.model(), subject, "mim-mu", together="sequential", reference="previous").concept == subject
    assert make_plan(tiny.model(), subject, "mim-mu").concept == subject
    with raises_error("together-twice", ("sequential", "original"), "Several.of"):
        make_plan(tiny.model(), several(), "mim-mu", together="sequential")
    with raises_error("together-twice", ("sequential", "previous"), "Several.of"):
        make_plan(tiny.model(), several(together="sequential"), "mim-mu", together="sequential", reference="previous")


@pytest.mark.parametrize("way", [{}, {"together": "sequential"}, {"together": "sequential", "reference": "previous"}])
def test_a_table_brings_them_back(way):
    for concepts in ([tiny.concept("glow", anchor="sketch"), tiny.concept("ring", synonyms=("hoop",))], [*several().parts]):
        subject = Several.of(concepts, **way)
        assert concept_from(json.loads(json.dumps(concept_table(subject)))) == subject
    own = Several.of([Concept.find("sweet", TASTES), Concept.find("pie", TASTES)], **way)
    assert concept_from(json.loads(json.dumps(concept_table(own)))) == own


def test_a_list_of_one_is_that_one(tmp_path):
    one = [make_plan(tiny.model(), c, "uce", together="sequential") for c in ([tiny.concept()], tiny.concept())]
    assert one[0] == one[1]
    assert one[0].stages == ()
    with raises_error("too-few-concepts", 0):
        make_plan(tiny.model(), [], "uce")


def test_every_choice_is_another_run():
    ways = [{}, {"together": "sequential"}, {"together": "sequential", "reference": "previous"}]
    plans = [make_plan(tiny.model(), several(**way), "mim-mu") for way in ways]
    plans.append(make_plan(tiny.model(), several("ring", "neon", "dots"), "mim-mu"))
    assert len({p.id for p in plans}) == 4
    assert [p.id.rsplit("-", 1)[0] for p in plans[:2]] == ["mim-mu-neon-and-2-more", "mim-mu-neon-then-2-more"]
    stages = [[s.id for s in p.stages] for p in plans[1:3]]
    assert stages[0][0] == stages[1][0]  # the first of both: neon alone
    assert len({*stages[0], *stages[1]}) == 5


def test_a_stage_knows_of_the_concepts_before_it():
    stages = make_plan(tiny.model(), several(together="sequential"), "mim-mu").stages
    assert [[c.target for c in s.concept.removed] for s in stages] == [[], ["neon"], ["neon", "ring"]]
    assert stages[0] == make_plan(tiny.model(), tiny.concept("neon"), "mim-mu")


def test_nothing_left_to_stand_in():
    pies = Several.of([Concept.find("soup", TASTES), Concept.find("pie", TASTES)])
    with raises_error("no-other-member", "soup", "--vocabulary"):
        make_plan(tiny.model(), pies, "mim-mu")


def test_a_concept_without_a_picture_would_not_be_removed():
    with raises_error("too-few-pictures", 2, "--pictures 3"):
        make_plan(tiny.model(), several(), "mim-mu", training=tiny.TRAINING | {"pictures": 2})
    make_plan(tiny.model(), several(together="sequential"), "mim-mu", training=tiny.TRAINING | {"pictures": 2})


# --- whose turn it is ----------------------------------------------------------------------------------------------------


def test_fewer_pictures_than_prompts_still_show_every_name(tmp_path):
    """The other names of a concept come last among its prompts: the first few alone would leave them untouched."""
    subject = Several.of([tiny.concept("neon", synonyms=("glow",)), tiny.concept("ring", synonyms=("hoop",))])
    training = replace(TRAINING, pictures=16, points=32)
    batches = gather(tiny.session(tiny.model(), Store(tmp_path)), subject, frozenset({"forget"}), training, 0)
    shown = [p.prompt for p in batches.banks["forget"].prompts]
    assert all(sum(name in prompt.split() for prompt in shown) >= 6 for name in ("neon", "glow", "ring", "hoop"))
    assert len(set(shown)) == 16
    alone = gather(tiny.session(tiny.model(), Store(tmp_path)), tiny.concept("ring"), frozenset({"forget"}), training, 0)
    told = [p.prompt for p in tiny.concept("ring").forget()]
    assert [p.prompt for p in alone.banks["forget"].prompts[:16]] == [told[i % len(told)] for i in range(16)]


def test_concepts_take_turns_within_a_batch_and_over_batches():
    """Three concepts of 4, 6 and 2 points, in batches of 5: 12 steps are 60 rows, 20 of each."""
    groups = [[0, 3, 6, 9], [1, 4, 7, 10, 12, 13], [2, 5]]
    batches = [picks_of_each(7, step, groups, 5) for step in range(12)]
    owner = {row: at for at, group in enumerate(groups) for row in group}
    assert [owner[r] for b in batches for r in b] == [i % 3 for i in range(60)]
    for group in groups:
        rows = [r for b in batches for r in b if r in group]
        for epoch in range(20 // len(group)):  # each goes over its own points once, and then again
            assert sorted(rows[epoch * len(group) : (epoch + 1) * len(group)]) == group
    assert picks_of_each(7, 5, groups, 5) == batches[5] != picks_of_each(8, 5, groups, 5)
    assert all({owner[r] for r in picks_of_each(7, step, groups, 5)} == {0, 1, 2} for step in range(-6, 0))


def test_one_concept_alone_has_the_turns_that_it_always_had():
    assert [picks_of_each(3, s, [list(range(12))], 5) for s in range(-2, 9)] == [picks(3, s, 12, 5) for s in range(-2, 9)]


@pytest.mark.parametrize("need", ["forget", "surrogate", "anchor_pictures", "trajectory"])
def test_points_are_spread_evenly_and_every_batch_holds_all(tmp_path, need):
    batches = gather(tiny.session(tiny.model(), Store(tmp_path)), several(), frozenset({need, "context", "spans"}), TRAINING, 0)
    bank = batches.banks[need]
    counts = [sum(p.concept == name for p in bank.prompts) for name in NAMES]
    assert min(counts) > 0
    assert max(counts) - min(counts) <= (2 if need != "trajectory" else 0)  # 8 pictures of 3 concepts, twice
    for step in range(8):
        for part in batches.split(step, 1):
            prompts = part.parts[need].cond.keys
            assert all(any(name in p for p in prompts) for name in NAMES)
            assert (part.spans == 1).any(1).all()
            for prompt, context in zip(prompts, part.context.keys, strict=True):
                [name] = [n for n in NAMES if n in prompt.split()]
                assert name not in context


# --- together ------------------------------------------------------------------------------------------------------------


def moved(before, run: Run, prompt: str) -> float:
    """How far a prediction has moved, against its length."""
    point = Point(torch.randn(4, *before.latent_shape), torch.tensor([100, 400, 600, 900]), before.encode([prompt]).expand(4), ("",) * 4)
    with torch.no_grad():
        untouched, now = before.predict(point), before.predict(point, run.delta())
    return ((now - untouched).norm() / untouched.norm()).item()


@pytest.mark.parametrize("method", ["mim-mu", "esd", "uce"])
def test_together_every_concept_moves(tmp_path, method):
    """More than a prompt that was trained on nothing moves."""
    model = tiny.model()
    run = made(tmp_path / "both", [tiny.concept("neon"), tiny.concept("ring")], method, training=tiny.TRAINING | {"steps": 12})
    alone = made(tmp_path / "alone", tiny.concept("neon"), method, training=tiny.TRAINING | {"steps": 12})
    for prompt in ("neon style", "a ring"):
        assert moved(model, run, prompt) > 1e-3
    if method == "uce":  # a closed form leaves alone what it was not told of
        assert moved(model, alone, "a ring") < 0.2 * moved(model, run, "a ring")
    assert run.concept() == several("neon", "ring")
    assert run.stages == ()


def given_to_uce(subject, model) -> EditPrompts:
    """What a closed form of a U-Net is given: all of its weights read the same."""
    names = model.scope(SCOPES["entrance"])
    [(group, prompts)] = edit_prompts(subject, model, names)
    assert group.weights(names) == list(names)
    return prompts


def test_a_closed_form_is_given_the_union():
    model, subject = tiny.model(), several()
    prompts = given_to_uce(subject, model)
    assert prompts.target.keys == tuple(p.prompt for c in subject.parts for p in c.forget())
    assert prompts.goal.keys == tuple(p.context for c in subject.parts for p in c.forget())
    assert set(prompts.retain.keys) == {p for c in subject.parts for p in c.retain()}
    assert len(set(prompts.target.keys)) == len(prompts.target)


# --- one after another ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mim-mu", "esd"])
def test_in_sequence_every_concept_is_trained_and_not_the_first_alone(tmp_path, method, monkeypatch):
    """A released trainer takes (step - 1) // steps of each for the number of the concept, which is 0 to the end."""
    seen = []
    real = expunge.training.batches.gather

    def spied(*arguments):
        batches = real(*arguments)
        lead = next(iter(batches.banks.values()))
        seen.append({p.concept for p in lead.prompts})
        return batches

    monkeypatch.setattr(expunge.runs.unlearn, "gather", spied)
    model = tiny.model()
    run = made(tmp_path / "run", several(together="sequential"), method, model=model)
    assert seen == [{"neon"}, {"ring"}, {"dots"}]
    deltas = [{}, *(stage.delta() for stage in run.stages)]
    own = {n: p.detach() for n, p in model.network.named_parameters()}
    for before, after in itertools.pairwise(deltas):
        assert any(not torch.equal(after[n], before.get(n, own[n])) for n in after)
    assert (run.folder / "delta.safetensors").read_bytes() == (run.stages[-1].folder / "delta.safetensors").read_bytes()
    assert [s.folder.name for s in run.stages] == ["01-neon", "02-ring", "03-dots"]
    assert [line["step"] for line in map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())] == list(range(1, 19))
    assert run.card["steps_done"] == 18


def test_the_first_stage_is_the_run_of_its_concept_alone(tmp_path):
    run, alone = made(tmp_path / "run", several("neon", "ring", together="sequential")), made(tmp_path / "alone", tiny.concept("neon"))
    assert run.stages[0].id == alone.id
    for file in ("delta.safetensors", "config.toml", "log.jsonl"):
        assert (run.stages[0].folder / file).read_bytes() == (alone.folder / file).read_bytes()


@pytest.fixture
def states(monkeypatch):
    """The batches and the state that training begins with, run by run."""
    found = []
    real, gathered = expunge.training.state.TrainState, expunge.training.batches.gather
    monkeypatch.setattr(expunge.runs.unlearn, "gather", lambda *a: found.append([gathered(*a)]) or found[-1][0])
    monkeypatch.setattr(expunge.runs.unlearn, "TrainState", lambda *a: found[-1].append(real(*a)) or found[-1][1])
    return found


@pytest.mark.parametrize("method", ["mim-mu", "esd", "spm"])
def test_the_original_reference_is_the_untouched_model_bit_for_bit(tmp_path, method, states):
    """Its weights, what it predicts, and the pictures that the stage learns from; while the student begins where the first ended."""
    run = made(tmp_path / "run", several("neon", "ring", together="sequential"), method)
    untouched = tiny.model()
    own = dict(untouched.network.named_parameters())
    (_, _), (batches, state) = states
    assert all(torch.equal(w, own[n]) for n, w in state.reference.items())
    first = run.stages[0].delta()
    assert all(torch.equal(w, first[n]) for n, w in state.start.items())
    assert any(not torch.equal(w, own[n]) for n, w in state.start.items())
    point = batches(0).forget if "forget" in batches.needs else batches(0).parts[min(batches.banks)]
    with torch.no_grad():
        reference = Reference(batches.model, state, ReferenceCache())
        assert torch.equal(reference(point), untouched.predict(point, {n: own[n] for n in state.reference}))
    fresh = gather(tiny.session(untouched, Store(tmp_path / "fresh")), run.stages[1].concept(), batches.needs, TRAINING, 0)
    for need, bank in fresh.banks.items():
        assert torch.equal(bank.points.x_t, batches.banks[need].points.x_t)


def test_the_previous_reference_is_what_the_stage_before_left(tmp_path, states):
    run = made(tmp_path / "run", several("neon", "ring", together="sequential", reference="previous"))
    (_, _), (batches, state) = states
    first, left = run.stages[0].delta(), tiny.model()
    assert all(torch.equal(w, first[n]) for n, w in state.reference.items())
    with torch.no_grad():
        for name, value in first.items():
            dict(left.network.named_parameters())[name].copy_(value)
    fresh = gather(tiny.session(left, Store(tmp_path / "fresh")), run.stages[1].concept(), batches.needs, TRAINING, 0)
    assert torch.equal(fresh.banks["forget"].points.x_t, batches.banks["forget"].points.x_t)
    # In the same store, what the changed model drew is never taken for the untouched one's.
    again = gather(tiny.session(tiny.model(), Store(tmp_path / "store")), run.stages[1].concept(), batches.needs, TRAINING, 0)
    assert not torch.equal(again.banks["forget"].points.x_t, batches.banks["forget"].points.x_t)


@pytest.mark.parametrize("reference", ["original", "previous"])
@pytest.mark.parametrize("method", ["mim-mu", "spm"])
def test_the_model_is_given_back_and_changes_are_told_from_the_untouched_one(tmp_path, reference, method):
    model = tiny.model()
    before = {n: p.detach().clone() for n, p in model.network.named_parameters()}
    known = model.fingerprint
    run = made(tmp_path / "run", several("neon", "ring", together="sequential", reference=reference), method, model=model)
    assert all(torch.equal(p, before[n]) for n, p in model.network.named_parameters())
    assert model.fingerprint == known
    delta = run.delta(known)
    moved = sum((delta[n].double() - before[n].double()).square().sum() for n in delta)
    size = sum(before[n].double().square().sum() for n in delta)
    assert run.card["relative_change"] == pytest.approx(float((moved / size) ** 0.5), rel=1e-9)


def test_factors_are_drawn_anew_for_each_stage(tmp_path, states):
    """Drawn alike, ten stages of rank 1 would together hardly be more than one."""
    made(tmp_path / "run", several("neon", "ring", together="sequential"), "spm")
    one, other = (state for _, state in states)
    name = next(n for n in one.initial if n.endswith(".A"))
    assert not torch.equal(one.initial[name], other.initial[name])


def stop_at(stage: int, step: int):
    """Breaks off in a stage, after a step."""
    stages = itertools.count(1)

    def watch(steps, start, total):
        now = next(stages)
        for s in steps:
            yield s
            if (now, s.step) == (stage, step):
                raise Interrupted

    return watch


OFTEN = tiny.TRAINING | {"checkpoint_every": 2}


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Run:
    """A sequence that nothing disturbed."""
    return made(tmp_path_factory.mktemp("straight") / "run", several(together="sequential"), training=OFTEN)


@pytest.mark.parametrize(("stage", "step"), [(1, 3), (2, 1), (2, 5), (3, 6)])
def test_a_resumed_sequence_ends_where_a_straight_one_does_and_does_no_stage_twice(straight, tmp_path, stage, step):
    subject, training = several(together="sequential"), OFTEN
    with pytest.raises(Interrupted):
        made(tmp_path / "resumed", subject, watch=stop_at(stage, step), training=training)
    assert not (tmp_path / "resumed" / "delta.safetensors").exists()
    with pytest.raises(ExpungeError, match="not finished"):
        _ = Run(tmp_path / "resumed").card
    done = sorted((tmp_path / "resumed" / "stages").glob("*/delta.safetensors"))
    assert len(done) == stage - 1
    stamps = [file.stat().st_mtime_ns for file in done]
    resumed = made(tmp_path / "resumed", subject, training=training)
    assert [file.stat().st_mtime_ns for file in done] == stamps
    for file in ("delta.safetensors", "log.jsonl", "config.toml"):
        assert (resumed.folder / file).read_bytes() == (straight.folder / file).read_bytes()
    stamp = (resumed.folder / "delta.safetensors").stat().st_mtime_ns
    made(tmp_path / "resumed", subject, training=training)
    assert (resumed.folder / "delta.safetensors").stat().st_mtime_ns == stamp


def test_a_sequence_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """SIGKILL in the first stage and in the second, then let it finish. The reference is what the first stage left."""
    way = {"together": "sequential", "reference": "previous", "training": tiny.TRAINING | {"steps": 10, "checkpoint_every": 3}}
    for steps_seen in (7, 9):  # each goes on from a checkpoint of every third step
        apart.killed(tmp_path / "killed", steps_seen, ["neon", "ring"], way)
    assert not (tmp_path / "killed" / "delta.safetensors").exists()
    assert (tmp_path / "killed" / "stages" / "01-neon" / "delta.safetensors").exists()
    for name in ("killed", "straight"):
        apart.finished(tmp_path / name, ["neon", "ring"], way)
    for file in ("delta.safetensors", "log.jsonl", "stages/01-neon/delta.safetensors", "stages/02-ring/delta.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes()


@pytest.mark.parametrize("way", [{}, {"together": "sequential"}, {"together": "sequential", "reference": "previous"}])
@pytest.mark.parametrize("method", ["mim-mu", "esd"])
def test_the_price_is_what_it_costs(tmp_path, way, method):
    model = tiny.model()
    plan = make_plan(model, several(**way), method, training=tiny.TRAINING)
    store = Store(tmp_path / "store")
    cost = price(plan, tiny.session(model, store))
    card = carry_out(plan, tiny.session(model, store), tmp_path / "run").card
    assert (card["forwards"], card["backwards"]) == (cost.forwards, cost.backwards)
    assert cost.pictures > 0
    assert price(plan, tiny.session(model, store)).pictures == 0  # whoever drew them, they are in the store


# --- closed forms --------------------------------------------------------------------------------------------------------


def products(model, *runs: Run) -> dict[str, torch.Tensor]:
    """W T1 T2 ... in float64, each T by its defining equations: ridge and weights of UCE's defaults."""
    own, method, total = dict(model.network.named_parameters()), UCE(), None
    for run in runs:
        prompts = given_to_uce(run.concept(), model)
        states = (c.states.flatten(0, 1) for c in (prompts.target, prompts.goal, prompts.retain))
        factor = eraser(*states, method.erase_weight, method.preserve_weight, method.ridge)
        total = factor if total is None else total @ factor
    return {n: own[n].detach().double() @ total for n in runs[0].delta()}


def test_a_sequence_of_closed_forms_is_their_product(tmp_path):
    run = made(tmp_path / "run", several(together="sequential"), "uce")
    for name, exact in products(tiny.model(), *run.stages).items():
        torch.testing.assert_close(run.delta()[name].double(), exact, rtol=1e-4, atol=1e-6)


def test_a_later_closed_form_leaves_what_an_earlier_one_removed_as_it_is_read(tmp_path):
    """No other prompt has those words: on the canvas neon was back in 88 % of its pictures once starfish had been removed after it."""
    run, model = made(tmp_path / "run", several(together="sequential"), "uce"), tiny.model()
    first, *_, last = run.stages
    before = [p.prompt for p in first.concept().by_every_name.forget()]
    retained = given_to_uce(last.concept(), model).retain.keys
    assert set(before) <= set(retained)
    assert not set(before) & set(given_to_uce(first.concept(), model).retain.keys)
    assert not set(before) & set(given_to_uce(several(), model).retain.keys)  # removed together: one solve maps them all away

    given, states = given_to_uce(last.concept(), model), model.encode(before).states.flatten(0, 1).double()
    untold = [i for i, key in enumerate(given.retain.keys) if key not in before]

    def shift(retain: Cond) -> torch.Tensor:
        e, g, p = (c.states.flatten(0, 1) for c in (given.target, given.goal, retain))
        return (states @ eraser(e, g, p, 1.0, 0.1, 0.5).mT - states).norm()

    assert shift(given.retain) < 0.8 * shift(given.retain[untold])


def test_closed_forms_made_apart_compose_to_their_product(tmp_path):
    model = tiny.model()
    apart = [made(tmp_path / n, tiny.concept(n), "uce") for n in NAMES]
    run = compose(apart, tmp_path / "all", model)
    for name, exact in products(model, *apart).items():
        assert torch.equal(run.delta(model.fingerprint)[name], exact.float())
    assert run.concept() == several()
    for name in ("neon style", "a ring", "dots style"):
        alone = next(r for r in apart if r.concept().target in name)
        assert moved(model, run, name) > 0.5 * moved(model, alone, name)
    assert compose(apart, tmp_path / "all", model).card == run.card
    other = compose(apart[::-1], tmp_path / "other", model)
    assert other.id != run.id
    assert any(not torch.equal(other.delta()[n], w) for n, w in run.delta().items())


def test_sequences_and_unions_compose_too(tmp_path):
    model = tiny.model()
    chain = made(tmp_path / "chain", several("neon", "ring", together="sequential"), "uce")
    both = made(tmp_path / "both", several("dots", "disc"), "uce", ridge=2.0)
    run = compose([chain, both], tmp_path / "all", model)
    assert [c.target for c in run.concept().parts] == ["neon", "ring", "dots", "disc"]
    assert run.card["composed_of"][1]["config"]["ridge"] == 2.0
    assert run.card["config"] == {}


def test_what_does_not_compose(tmp_path):
    model = tiny.model()
    neon, ring = (made(tmp_path / n, tiny.concept(n), "uce") for n in ("neon", "ring"))
    trained = made(tmp_path / "trained", tiny.concept("dots"))
    for runs, rule, value in (
        ([neon], "too-few-runs", 1),
        ([neon, trained], "compose-trained", "mim-mu"),
        ([neon, made(tmp_path / "glow", tiny.concept("glow"), "uce")], "concept-twice", ANY),
        (
            [neon, made(tmp_path / "elsewhere", tiny.concept("ring"), "uce", model=tiny.model(1))],
            "compose-several-base-models",
            tiny.model(1).fingerprint,
        ),
    ):
        with raises_error(rule, value):
            compose(runs, tmp_path / "never", model)
    two = compose([neon, ring], tmp_path / "two", model)
    with raises_error("compose-composed", two.id):
        compose([two, made(tmp_path / "dots", tiny.concept("dots"), "uce")], tmp_path / "never", model)
    with raises_error("other-base-model", tiny.model(1).fingerprint):
        compose([neon, ring], tmp_path / "never", tiny.model(1))
    kept = (ring.folder / "card.json").read_text()

    def retold(**said) -> Run:
        (ring.folder / "card.json").write_text(json.dumps(json.loads(kept) | said))
        return Run(ring.folder)

    for said, rule, value in (
        ({"config": {"ridge": 5.0}}, "compose-not-a-product", ANY),
        ({"dtype": "bf16"}, "compose-several-precisions", "bf16"),
        ({"scope": "xattn"}, "compose-several-scopes", "xattn"),
        ({"status": "running"}, "unfinished-run", ANY),
    ):
        with raises_error(rule, value):
            compose([neon, retold(**said)], tmp_path / "never", model)
    with raises_error("folder-of-another-run", neon.id, "--out"):
        compose([neon, retold()], neon.folder, model)
    assert not (tmp_path / "never").exists()


def test_a_closed_form_has_no_reference():
    with raises_error("reference-of-closed-form", "previous", "--reference"):
        make_plan(tiny.model(), several(together="sequential", reference="previous"), "uce")
