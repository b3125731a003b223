"""Batches are functions of (seed, step); what a need brings belongs to the same prompt, row by row."""

import itertools
from dataclasses import replace

import pytest
import tiny
import torch
from raising import raises_error

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Kind, Member, Vocabulary
from expunge.diffusion.batch import Need
from expunge.methods.base import Training
from expunge.models.sampling import Sampler
from expunge.storage.cache import Store
from expunge.storage.hashing import seed_of
from expunge.training.banks import forget_bank, surviving, trajectory_bank
from expunge.training.batches import gather, picks
from expunge.training.counters import counted
from expunge.training.networks import ReferenceCache

TRAINING = Training(**tiny.TRAINING)


def batches(tmp_path, needs, target="neon", seed=0, **settings):
    return gather(tiny.session(tiny.model(), Store(tmp_path)), tiny.concept(target, **settings), frozenset(needs), TRAINING, seed)


def test_an_epoch_visits_every_point_once_in_an_order_of_its_own():
    seen = [i for step in range(4) for i in picks(0, step, 12, 6)]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]
    assert picks(0, 3, 12, 6) == picks(0, 3, 12, 6) != picks(1, 3, 12, 6)


def test_a_batch_larger_than_the_bank_goes_round():
    assert sorted(picks(0, 0, 4, 8)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    one, again = batches(tmp_path / "a", {"forget", "marginal"}), batches(tmp_path / "b", {"forget", "marginal"})
    for step in (5, 0):
        x, y = one(step).forget, again(step).forget
        assert torch.equal(x.x_t, y.x_t)
        assert x.keys == y.keys
        assert one(step).marginal.keys == again(step).marginal.keys
    assert batches(tmp_path / "c", {"forget"}, seed=1)(0).forget.keys != one(0).forget.keys


def test_rows_belong_together(tmp_path):
    """Context, marginal and anchor are those of the very prompt in the same row."""
    made = batches(tmp_path, {"forget", "context", "marginal", "anchor"}, anchor="sketch")
    for step in range(4):
        batch = made(step)
        for prompt, context, marginal, anchor in zip(
            batch.forget.cond.keys, batch.context.keys, batch.marginal.keys, batch.anchor.keys, strict=True
        ):
            assert "neon" in prompt
            partner = prompt.removesuffix("neon style").removesuffix(" in ")
            assert context == partner
            assert marginal.startswith(partner)
            assert "neon" not in marginal
            assert marginal.endswith("style")
            assert anchor == prompt.replace("neon", "sketch")


def test_a_bank_has_each_prompt_once_in_memory(tmp_path):
    points = forget_bank(tiny.session(cache=Store(tmp_path)), tiny.concept(), Training(**tiny.TRAINING), 0).points
    assert len(points.cond.distinct) == len(set(points.cond.keys)) < len(points)


def test_noised_points_are_on_the_path(tmp_path):
    made = batches(tmp_path, {"forget"})
    x = made.banks["forget"].points
    again = made.model.path.add_noise(_clean(made), x.goal, x.t)
    torch.testing.assert_close(again, x.x_t, rtol=1e-4, atol=1e-4)
    assert sorted((x.t * 16 // 1000).int().tolist()) == list(range(16))  # one in each of 16 equal slices of the path


def _clean(made):
    x = made.banks["forget"].points
    return made.model.path.x_0(x.goal, x.x_t, x.t)


@pytest.mark.parametrize("need", ["forget", "trajectory", "anchor_pictures", "surrogate"])
def test_bare_prompts_hold_the_concept_alone(need: Need, tmp_path):
    concept = tiny.concept("neon", synonyms=("glow",))
    shown = {
        asked: set(
            gather(tiny.session(tiny.model(), Store(tmp_path)), concept, frozenset({need}), training, 0).banks[need].points.cond.keys
        )
        for asked in ("bare", "every")
        for training in (replace(TRAINING, prompts=asked, pictures=24, points=24 * 25),)
    }
    assert shown["bare"] == {"neon style", "glow style"}
    assert {key for key in shown["every"] if key.startswith("a ")}


def test_a_trajectory_pairs_each_place_with_its_own_time(tmp_path):
    """A released trainer pairs clean latents with t near 990 in 2 % of its steps."""
    model = tiny.model()
    references = ReferenceCache()
    training = replace(TRAINING, points=3)
    bank = trajectory_bank(tiny.session(model, Store(tmp_path)), tiny.concept(), training, 0, references)
    steps = model.default_sampler.steps
    assert len(bank.points) == steps  # one trajectory covers the 3 points asked for
    t = bank.points.t.tolist()
    assert t == sorted(t, reverse=True)
    x = bank.points
    with torch.no_grad():
        eps = model.predict(x)
    known = torch.stack([references.rows[k, p] for k, p in zip(x.keys, x.cond.keys, strict=True)])
    torch.testing.assert_close(known, eps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_trajectories_know_the_prediction_without_a_prompt_where_guidance_asked_for_it(guidance, tmp_path, monkeypatch):
    """Under the key of the model's own condition without a prompt, whatever that is."""
    model = tiny.model()
    monkeypatch.setattr(type(model), "default_sampler", Sampler(3, guidance))
    monkeypatch.setattr(type(model), "null", lambda self, count=1: replace(self.encode(["style"]), keys=("no prompt",)).expand(count))
    references = ReferenceCache()
    bank = trajectory_bank(tiny.session(model, Store(tmp_path)), tiny.concept(), TRAINING, 0, references)
    asked = {prompt for _, prompt in references.rows}
    assert asked - {*bank.points.cond.keys} == ({"no prompt"} if guidance > 1 else set())


def test_pictures_are_made_once(tmp_path):
    store = Store(tmp_path)
    model = tiny.model()
    calls = []
    model.network.register_forward_pre_hook(lambda *_: calls.append(1))
    for _ in range(2):
        gather(tiny.session(model, store), tiny.concept(), frozenset({"forget"}), TRAINING, 0)
        calls.append("done")
    assert calls.index("done") > 0
    assert calls[calls.index("done") + 1 :] == ["done"]


def test_what_survives_is_spread_over_its_prompts_and_never_holds_the_concept(tmp_path):
    made = batches(tmp_path, {"retain"}, synonyms=("glow",))
    prompts, shown = made.concept.retain(), made.banks["retain"].points.cond.keys
    assert set(made.banks) == {"retain"}
    assert not any(word in prompt for prompt in shown for word in ("neon", "glow"))
    assert len(set(shown)) == len(shown) == 16
    places = [prompts.index(p) for p in shown]
    assert max(b - a for a, b in itertools.pairwise([*places, len(prompts)])) <= -(-len(prompts) // 16)
    for step in range(4):
        assert made(step).retain.cond.keys == tuple(shown[i] for i in (int(k.removeprefix("retain/")) for k in made(step).retain.keys))


def test_what_survives_never_holds_the_concept_inside_another_name(tmp_path):
    ships = tuple(Member(n) for n in ("Ship", "ship in a bottle", "shipyard"))
    objects = Kind("object", "a {target}", "a {target}, {partner}", "style", ships)
    styles = Kind("style", "{target}", "a {partner}, {target}", "object", (Member("ink"),))
    vocabulary = Vocabulary({"object": objects, "style": styles})
    assert "a ship in a bottle" in Concept.find("Ship", vocabulary).retain()
    assert surviving(Concept.find("Ship", vocabulary)) == ["a shipyard", "a shipyard, ink", "ink", ""]


def test_a_stand_in_is_shown_under_the_concepts_prompt(tmp_path):
    """The picture is of another prompt than the one in its row, and is noised as any other."""
    made = batches(tmp_path, {"surrogate", "anchor_pictures", "marginal", "anchor"}, anchor="sketch")
    forget = {p.prompt: p for p in made.concept.forget()}
    store = Store(tmp_path)
    for need in ("surrogate", "anchor_pictures"):
        bank = made.banks[need]
        of = list(bank.marginals[:8]) if need == "surrogate" else [p.anchor for p in bank.prompts[:8]]
        assert [p.prompt for p in bank.prompts] == list(bank.points.cond.keys)
        assert all(m in forget[p].marginals for p, m in zip(bank.points.cond.keys, bank.marginals, strict=True))
        assert not any("neon" in prompt for prompt in of)
        seeds = [seed_of(0, need, "picture", i) for i in range(8)]
        clean = made.model.sample_latents(made.model.encode(of), seeds, made.model.default_sampler)
        points = bank.points
        x_t = made.model.path.add_noise(clean.repeat(2, 1, 1, 1), points.goal, points.t)
        torch.testing.assert_close(points.x_t, x_t, rtol=1e-4, atol=1e-4)
        assert sorted((points.t * 16 // 1000).tolist()) == list(range(16))
    assert len(list(store.root.rglob("*.safetensors"))) == 2
    for step in range(4):  # prompts go with the pictures of the anchor, which come first
        batch = made(step)
        assert batch.anchor.keys == tuple(forget[p].anchor for p in batch.anchor_pictures.cond.keys)


def test_a_surrogates_marginal_is_what_its_picture_shows(tmp_path):
    made = batches(tmp_path, {"surrogate", "marginal"})
    batch = made(0)
    at = [int(k.removeprefix("surrogate/")) for k in batch.surrogate.keys]
    assert batch.marginal.keys == tuple(made.banks["surrogate"].marginals[i] for i in at)


def test_parts_draw_from_streams_of_their_own(tmp_path):
    """Parts that were drawn by the same numbers would meet the same partners in every epoch."""
    made = batches(tmp_path, {"forget", "retain", "surrogate", "anchor_pictures"})
    batch = made(0)
    numbers = [tuple(k.split("/")[1] for k in part.keys) for part in (batch.forget, batch.retain, batch.surrogate, batch.anchor_pictures)]
    assert len(set(numbers)) == 4
    noises = [made.banks[n].points.goal for n in ("forget", "retain", "surrogate", "anchor_pictures")]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(noises, 2))


def test_another_part_changes_no_draw_of_the_concepts(tmp_path):
    alone, beside = batches(tmp_path, {"forget", "marginal"}), batches(tmp_path, {"forget", "marginal", "retain", "surrogate"})
    for step in range(3):
        assert alone(step).forget.keys == beside(step).forget.keys
        assert torch.equal(alone(step).forget.x_t, beside(step).forget.x_t)
        assert alone(step).marginal.keys == beside(step).marginal.keys


def test_every_part_is_cut_alike(tmp_path):
    made = batches(tmp_path, {"forget", "retain", "marginal"})
    whole, cut = made(3), made.split(3, 2)
    for need in ("forget", "retain", "marginal"):
        assert tuple(k for b in cut for k in b.parts[need].keys) == whole.parts[need].keys
        assert [len(b.parts[need]) for b in cut] == [2, 2]


def test_negative_steps_are_batches_too(tmp_path):
    made = batches(tmp_path, {"forget"})
    assert len(made(-1).forget) == 4
    assert sorted(k for s in range(-4, 0) for k in made(s).forget.keys) == sorted(made.banks["forget"].points.keys)


def test_a_sibling_is_of_the_family_and_goes_row_by_row(tmp_path):
    made = batches(tmp_path, {"forget", "sibling", "context"})
    family = {m.name for m in tiny.concept().siblings}
    assert family == {"outline", "sketch", "blueprint"}
    drawn = set()
    for step in range(4):
        batch = made(step)
        for prompt, sibling in zip(batch.forget.cond.keys, batch.sibling.keys, strict=True):
            [word] = [w for w in family if w in sibling]
            assert prompt.replace("neon", word) == sibling
            drawn.add(word)
    assert len(drawn) > 1
    assert made.banks["forget"].siblings == batches(tmp_path, {"forget", "sibling", "context"}).banks["forget"].siblings


def test_without_siblings_the_marginal_stands_in(tmp_path):
    kinds = {
        "style": Kind("style", "{target} style", "a {partner} in {target} style", "object", tuple(map(Member, ("neon", "dots", "swirl")))),
        "object": Kind("object", "a {target}", "a {target} in {partner} style", "style", (Member("ring"),)),
    }
    concept = Concept.find("neon", Vocabulary(kinds))
    needs = frozenset({"forget", "sibling", "marginal"})
    batch = gather(tiny.session(tiny.model(), Store(tmp_path)), concept, needs, TRAINING, 0)(0)
    assert batch.sibling.keys == batch.marginal.keys


def test_asking_for_siblings_changes_no_other_part(tmp_path):
    with_, without = batches(tmp_path, {"forget", "marginal", "sibling"})(1), batches(tmp_path, {"forget", "marginal"})(1)
    assert with_.marginal.keys == without.marginal.keys
    assert torch.equal(with_.forget.x_t, without.forget.x_t)


def test_what_a_run_trains_on_may_be_sampled_otherwise(tmp_path):
    """As distilled models need it: few steps, and no guidance. 0 and 1 both mean none."""
    session = tiny.session(cache=Store(tmp_path / "store"))
    training = Training(pictures=2, points=6, train_sampler_steps=3, train_guidance=0)
    references = ReferenceCache()
    bank = trajectory_bank(session, tiny.concept(), training, 0, references)
    assert len(bank.points) % 3 == 0
    with counted(session.model.network) as count:
        forget_bank(session, tiny.concept(), training, 0)
    assert count.samples == 2 * 3
    for none in (0.0, 1.0):
        assert session.model.forwards_per_image(Sampler(3, none)) == 3
    with raises_error("guidance-below-one", 0.5):
        Sampler(3, 0.5)
