"""Attacks of known outcome on the tiny pipeline: each cell is done once, and what may be said of it is said."""

import json
from dataclasses import asdict

import pytest
import tiny
from audit.conftest import PICTURES, SAMPLER
from audit.toys import CALLS

from expunge import audit
from expunge.attacks.relearn import Relearn
from expunge.audits import runner as module
from expunge.audits.budget import make_budget
from expunge.audits.cells import HitCount, Result
from expunge.audits.examples import EXAMPLES
from expunge.audits.setup import conclude, prepare
from expunge.errors import ExpungeError, NonFiniteLoss
from expunge.evaluation.judges import judges_for
from expunge.storage.cache import Store
from expunge.storage.lock import taken
from expunge.storage.tensors import fingerprint


def test_known_attacks_get_the_verdicts_that_they_deserve(audited):
    """Undo gives the untouched weights back, so the concept comes back; Nothing changes nothing; Wreck breaks the base model too."""
    found = {f.unlearned.label: f for f in audited("Undo", "Nothing", "Wreck").findings}
    assert {label: f.state for label, f in found.items()} == {"undo": "back", "nothing": "holds", "wreck": "blunt"}
    assert all(f.second == f.state for f in found.values())
    undo = found["undo"]
    assert (undo.unlearned.before.value, undo.rate.value, undo.base.before.value) == (0, 1, 1)
    assert (undo.unlearned.area, undo.base.area, undo.regained_at) == (0.5, 1, 1.0)
    assert found["nothing"].regained_at is None


def test_judges_look_at_what_an_attack_trained_on(audited):
    """Half of the pictures are the very ones that the untouched model draws of the concept."""
    made = audited("Careless")
    assert made.failures == ()
    found = {d.role: d.result.taught for d in made.done}
    assert found == {"unlearned": HitCount(2 * PICTURES, {"main": PICTURES, "second": PICTURES}), "base": None}


def relearning(lr: float):
    return make_budget({"pictures": 2, "attacks": [{"name": "relearn", "lr": lr, "steps": 3, "batch_size": 1, "pictures": 2}]}, "x")


def breaking(monkeypatch) -> None:
    """Makes the loss of relearning infinite after the reading at step 1."""
    attack = Relearn.__call__

    def attacked(self, victim):
        for reading in attack(self, victim):
            yield reading
            if reading.strength:
                raise NonFiniteLoss("The loss became infinite at step 2.", rule="non-finite-loss", value=2, hint="Try a lower rate.")

    monkeypatch.setattr(Relearn, "__call__", attacked)


def test_of_an_attack_whose_loss_is_no_longer_finite_the_readings_until_then_count(made, monkeypatch, tmp_path):
    breaking(monkeypatch)
    monkeypatch.setattr(Relearn, "AT", (0, 1, 2))
    given = {"model": tiny.model(), "sampler": SAMPLER, "cache": Store(tmp_path / "store"), "out": tmp_path / "audit"}
    done = prepare(made, relearning(1e-4), **given)
    assert not [e for e in done.run() if e.error]
    found = {d.role: d.result for d in conclude(done).done}
    assert {role: [r.strength for r in result.readings] for role, result in found.items()} == {"unlearned": [0, 1], "base": [0, 1]}
    assert all("at step 2" in result.cut for result in found.values())
    assert prepare(made, relearning(1e-4), **given).missing() == []
    assert not list((tmp_path / "audit" / "work").iterdir())


def test_an_attack_of_which_only_broken_images_are_left_has_no_result(made, monkeypatch, tmp_path):
    """A step so long that no image after it is finite."""
    monkeypatch.setattr(Relearn, "AT", (0, 1))
    given = {"model": tiny.model(), "sampler": SAMPLER, "cache": Store(tmp_path / "store"), "out": tmp_path / "audit"}
    nothing = prepare(made, relearning(1e20), **given)
    events = list(nothing.run())
    assert ["not finite" in e.error for e in events] == [False, True, False, True]
    assert [f.label for f in conclude(nothing, events).failures] == ["relearn", "relearn"]


def test_the_network_is_left_as_it_was(battery):
    made = battery("Undo", "Wreck")
    before = fingerprint(made.model.network)
    list(made.run())
    assert fingerprint(made.model.network) == before


def test_rows_are_in_long_format(audited, made):
    done = audited("Undo")
    rows = [json.loads(line) for line in (done.folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 2  # models, readings, judges
    assert {(r["run"], r["method"]) for r in rows} == {(made.id, "mim-mu"), ("base", "none")}
    assert {(r["metric"], r["attack"], r["probe"], r["n"]) for r in rows} == {("ASR", "undo", "target", PICTURES)}
    [after] = [r for r in rows if (r["run"], r["strength"], r["judge"]) == (made.id, 1.0, "main")]
    assert (after["value"], after["ci_high"], after["concept"]) == (1.0, 1.0, "neon")
    assert after["ci_low"] == pytest.approx(8 / (8 + 1.959964**2))  # Wilson at p = 1: n / (n + z²)


def test_what_is_done_is_computed_once(battery, monkeypatch):
    first = battery("Undo", "Nothing")
    assert len(list(first.run())) == 2 * (2 + 3)
    assert len(CALLS) == 4
    again = battery("Undo", "Nothing")
    assert again.missing() == []
    monkeypatch.setattr(module, "render_rows", lambda *a: pytest.fail("drawn again"))
    assert list(again.run()) == []
    assert conclude(again).table == conclude(first).table
    assert len(CALLS) == 4


def test_a_killed_audit_goes_on_with_the_cell_that_it_was_in(battery, monkeypatch):
    one = battery("Nothing", "Undo")
    events = one.run()
    for _ in range(4):  # the first cell has three readings: one of the second
        next(events)
    events.close()
    assert [c.name for c in battery("Nothing", "Undo").missing()] == [
        "nothing on base, neon",
        "undo on unlearned, neon",
        "undo on base, neon",
    ]
    CALLS.clear()
    list(battery("Nothing", "Undo").run())
    assert CALLS == ["nothing on base", "undo on unlearned", "undo on base"]
    assert battery("Nothing", "Undo").missing() == []


def test_the_same_pictures_are_drawn_once_for_all_attacks(battery, tmp_path):
    """Attacks begin with the same reading, and Nothing never leaves it."""
    list(battery("Nothing").run())
    drawn = len(list((tmp_path / "store" / "pictures").glob("*.png")))
    beside = PICTURES // 2  # where the concept is not asked for, of the run alone
    assert drawn == 2 * PICTURES + beside  # the run's and the untouched model's
    list(battery("Undo").run())  # of whose readings the run's last is new
    assert len(list((tmp_path / "store" / "pictures").glob("*.png"))) == drawn + PICTURES + beside


def test_the_same_prompts_are_drawn_without_the_concept(audited, battery):
    """And no other; the judge knows the pictures that the untouched model draws of the concept."""
    [mine, base] = [d.result for d in audited("Undo").done]
    judge = mine.judges[0]
    assert [r.hits[judge] for r in mine.readings] == [0, PICTURES]
    assert [(r.unasked.n, r.unasked.hits[judge]) for r in mine.readings] == [(PICTURES // 2, 0)] * 2
    assert [r.unasked for r in base.readings] == [None, None]
    assert battery("Undo").cells[0].id == mine.id
    assert Result.from_json(json.dumps(asdict(mine))) == mine


def test_a_cells_hash_covers_what_decides_it(battery, judges, monkeypatch, tmp_path):
    def ids(*names: str, **given: object) -> set[str]:
        return {c.id for c in battery(*names, **given).cells}

    base = ids("Nothing")
    assert ids("Nothing") == base
    assert ids("Nothing", out=tmp_path / "elsewhere", cache=Store(tmp_path / "other")) == base  # not where it lies
    for given in ({"pictures": 9}, {"seed": 1}, {"settings": {"steps": 3}}, {"sampler": module.Sampler(3, 1.0)}):
        assert not ids("Nothing", **given) & base, given
    assert not ids("Undo") & base
    for judge in judges:  # of the same name, with other weights
        monkeypatch.setattr(judge, "weights", "trained again")
    again = ids("Nothing")
    assert not again & base
    monkeypatch.setattr(module, "code_digest", lambda *roots, alone: "edited")
    assert not ids("Nothing") & again
    monkeypatch.setattr(module, "version_of", lambda package: "another")
    assert not ids("Nothing") & (again | base)


def test_files_in_a_folder_of_data_count_towards_the_hash(tmp_path):
    from expunge.attacks.relearn import Relearn
    from expunge.audits.budget import Entry

    entry = Entry("relearn", "relearn", Relearn(data=str(tmp_path)))
    before = entry.found_on_disk
    (tmp_path / "a.txt").write_text("a ring")
    assert entry.found_on_disk != before


def test_controls_are_shared_between_audits(battery, made, tmp_path):
    """The untouched model is attacked once for all runs on the concept, though each audit keeps a copy of its own."""
    list(battery("Undo").run())
    CALLS.clear()
    other = battery("Undo", out=tmp_path / "second")
    assert [c.side.role for c in other.missing()] == ["unlearned"]
    list(other.run())
    assert CALLS == ["undo on unlearned"]
    done = conclude(other)
    assert {d.role for d in done.done} == {"unlearned", "base"}
    assert len(list((tmp_path / "second" / "cells").glob("*.json"))) == 2
    names = {s.picture for d in done.done for r in d.result.readings for s in r.shown}
    assert names == {p.name for p in (tmp_path / "second" / "pictures").iterdir()}


@pytest.mark.parametrize("done_by_the_other", [False, True])
def test_a_control_that_another_audit_is_at_comes_last_and_is_not_done_twice(battery, tmp_path, done_by_the_other):
    mine, other = battery("Nothing", "Undo"), battery("Nothing", "Undo", out=tmp_path / "second")
    [shared] = [c for c in mine.cells if c.name == "nothing on base, neon"]
    events = mine.run()
    with taken(mine.kept.lock(shared.id)) as held:
        assert held
        for _ in range(3 + 2 + 2):  # the readings of the three other cells
            next(events)
        assert CALLS == ["nothing on unlearned", "undo on unlearned", "undo on base"]
        if done_by_the_other:
            list(other._attack(shared, 0))
    CALLS.clear()
    list(events)
    assert ([] if done_by_the_other else ["nothing on base"]) == CALLS
    assert mine.missing() == []


def test_a_result_that_lacks_a_picture_or_is_damaged_is_made_again(battery, tmp_path):
    made = battery("Nothing")
    list(made.run())
    [mine, base] = made.cells
    ours, theirs = (made.kept.find(c.id).readings[0].shown[0].picture for c in (mine, base))
    for name in (ours, theirs):
        (tmp_path / "audit" / "pictures" / name).unlink()
    assert [c.id for c in battery("Nothing").missing()] == [mine.id]  # the control's is in the store
    list(battery("Nothing").run())
    conclude(battery("Nothing"))
    assert all((tmp_path / "audit" / "pictures" / name).exists() for name in (ours, theirs))
    (tmp_path / "audit" / "cells" / f"{mine.id}.json").write_text("{")
    assert [c.id for c in battery("Nothing").missing()] == [mine.id]
    list(battery("Nothing").run())
    assert battery("Nothing").missing() == []


def test_few_pictures_are_kept_and_those_that_show_the_concept_come_first(audited):
    done = audited("Undo")
    [of] = [d.result for d in done.done if d.role == "unlearned"]
    first, best = of.readings
    assert len(first.shown) == len(best.shown) == EXAMPLES < PICTURES
    assert [s.place for s in first.shown] == [s.place for s in best.shown]
    assert all(s.hit and s.seen == "neon" for s in best.shown)
    assert not any(s.hit for s in first.shown)
    assert best.shown[0].prompt == "neon style"


def test_an_attack_that_cannot_be_made_is_told_of_and_tried_again(audited, battery):
    done = audited("Impossible", "Nothing")
    assert [(f.label, f.role) for f in done.failures] == [("impossible", "unlearned"), ("impossible", "base")]
    assert done.failures[0].error == "The attack needs <i>nothing</i>. Try to leave it out."
    assert [f.attack for f in done.findings] == ["audit.toys:Nothing"]
    assert len(battery("Impossible", "Nothing").missing()) == 2


def test_the_first_reading_is_the_model_as_it_is(audited):
    assert "is not at strength 0" in audited("Late").failures[0].error


def test_prices_are_those_of_the_attack_and_of_its_pictures(battery, tmp_path):
    made = battery("Undo", "Nothing")
    costs = [made.costs(made.cells)[c.id] for c in made.cells]
    each = PICTURES * SAMPLER.steps  # without guidance a picture takes a forward for each step
    beside = made.unasked * SAMPLER.steps  # pictures of prompts without the concept, for each reading's weights, of the run alone
    # The first attack on a model pays for the pictures under plain prompts, which the second finds.
    mine, base = 2 * (each + beside), 2 * each
    assert [(c.forwards, c.backwards) for c in costs] == [(7 + mine, 5), (7 + base, 5), (mine, 0), (base, 0)]
    assert all(c.seconds > 0 for c in costs)
    assert not (tmp_path / "audit").exists()
    assert not (tmp_path / "store").exists()


def test_what_was_spent_is_counted(audited):
    [mine, base] = [d.result for d in audited("Undo").done]
    each, beside = PICTURES * SAMPLER.steps, PICTURES // 2 * SAMPLER.steps
    # Of the untouched model the second reading is the first, whose pictures are there.
    assert (mine.forwards, mine.backwards, base.forwards) == (2 * (each + beside), 5, each)


def test_in_python_it_is_one_call(made, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('pictures = 8\n[[attacks]]\nname = "audit.toys:Undo"\n')
    done = audit(made, file, model=tiny.model(), sampler=SAMPLER, cache=Store(tmp_path / "store"), out=tmp_path / "audit", allow_code=True)
    assert done.findings[0].state == "back"
    assert (tmp_path / "audit" / "index.html").is_file()
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["budget"]["name"] == "mine"
    assert (tmp_path / "audit" / "rows.jsonl").is_file()


def test_each_of_several_concepts_is_attacked_and_a_control_counts_for_its_own(made, tmp_path):
    from expunge.audits.setup import prepare
    from expunge.runs.unlearn import unlearn

    run = unlearn(tiny.model(), [tiny.concept(), tiny.concept("ring")], "uce", out=tmp_path / "both")
    control = tmp_path / "retrained"
    control.mkdir()
    (control / "card.json").write_text(json.dumps(made.card | {"method": "retrain", "id": "retrain-neon"}))
    (control / "delta.safetensors").write_bytes((made.folder / "delta.safetensors").read_bytes())
    given = {"model": tiny.model(), "cache": Store(tmp_path / "store"), "control": control, "attacks": ["quantise"]}
    cells = prepare(run, "quick", **given).cells
    assert [(c.concept.target, c.side.role) for c in cells] == [
        ("neon", "unlearned"), ("neon", "base"), ("neon", "retrained"), ("ring", "unlearned"), ("ring", "base")
    ]  # fmt: skip


def test_without_a_judge_there_is_a_list_of_those_that_could_be(monkeypatch, battery):
    monkeypatch.setattr("expunge.audits.setup.judges_for", judges_for)
    with pytest.raises(ExpungeError) as refused:
        battery("Nothing")
    assert (refused.value.rule, refused.value.value) == ("missing-judge", "in memory")
    assert "`expunge meter" in refused.value.hint


def test_readings_count_each_prompt(audited):
    made = audited("Undo", pictures=2 * PICTURES)
    prompts = len(tiny.concept().probes()["target"])
    for done in made.done:
        for reading in done.result.readings:
            for judge, parts in reading.by_prompt.items():
                assert tuple(map(sum, zip(*parts, strict=True))) == (reading.hits[judge], reading.n)
                assert len(parts) == min(prompts, reading.n)
