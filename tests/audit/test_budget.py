"""Budgets: read and checked whole before any work begins."""

import json
from pathlib import Path
from unittest.mock import ANY

import pytest
import tiny
from raising import raises_error

from expunge.attacks import ATTACKS
from expunge.attacks.base import Victim
from expunge.attacks.relearn import Relearn
from expunge.audits.budget import builtin, find_attack, make_budget, read_budget
from expunge.storage.cache import Store


@pytest.mark.parametrize(
    ("table", "rule", "value", "hint"),
    [
        ({}, "no-attacks", None, "[[attacks]]"),
        ({"attacks": []}, "no-attacks", [], "[[attacks]]"),
        ({"attacks": ["relearn"]}, "attack-without-name", "relearn", "[[attacks]]"),
        ({"attacks": [{"lr": 1}]}, "attack-without-name", {"lr": 1}, "[[attacks]]"),
        ({"attack": []}, "unknown-key", "attack", "Try 'attacks'"),
        ({"pictures": 0, "attacks": [{"name": "relearn"}]}, "invalid-setting", ANY, "expunge show budget"),
        ({"attacks": [{"name": "relern"}]}, "unknown-attack", "relern", "Try 'relearn'"),
        ({"attacks": [{"name": "relearn", "step": 3}]}, "unknown-setting", "step", "Try 'steps'"),
        ({"attacks": [{"name": "relearn", "steps": 0}]}, "invalid-setting", ANY, ""),
        ({"attacks": [{"name": "relearn"}, {"name": "relearn"}]}, "shared-label", "relearn", "another label"),
        ({"attacks": [{"name": "nowhere.at:All"}]}, "not-importable", "nowhere.at:All", "PYTHONPATH"),
        ({"attacks": [{"name": "pathlib:Path"}]}, "wrong-class", "pathlib:Path", ""),
    ],
)
def test_mistakes_are_reported_in_one_line(table: dict, rule: str, value: object, hint: str):
    with raises_error(rule, value, hint) as caught:
        make_budget(table, "mine", allow_code=True)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_files(tmp_path: Path):
    with raises_error("unknown-budget", "quik", "Try 'quick'"):
        read_budget("quik")
    with raises_error("unreadable-toml", str(tmp_path / "none.toml")):
        read_budget(tmp_path / "none.toml")
    (tmp_path / "mine.toml").write_text('[[attacks]]\nname = "quantise"')
    assert read_budget(tmp_path / "mine.toml").name == "mine"


def test_entries_of_one_attack_are_told_apart_by_what_differs():
    made = make_budget(
        {"attacks": [{"name": "relearn", "lr": 1e-4, "steps": 5}, {"name": "relearn", "lr": 1e-3, "steps": 5}, {"name": "quantise"}]}, "x"
    )
    assert [e.label for e in made.entries] == ["relearn, lr 0.0001", "relearn, lr 0.001", "quantise"]
    assert [e.label for e in make_budget({"attacks": [{"name": "quantise", "label": "int8"}]}, "x").entries] == ["int8"]


def test_only_some_attacks_by_name_or_label_and_others_by_their_defaults():
    made = make_budget({"attacks": [{"name": "relearn", "lr": 1e-4}, {"name": "relearn", "lr": 1e-3}, {"name": "quantise"}]}, "x")
    assert [e.label for e in made.only(["relearn"]).entries] == ["relearn, lr 0.0001", "relearn, lr 0.001"]
    assert [e.label for e in made.only(["relearn, lr 0.001", "quantise"]).entries] == ["relearn, lr 0.001", "quantise"]
    assert [e.attack for e in made.only(["prune"]).entries] == [ATTACKS["prune"]()]
    with raises_error("unknown-attack", "prun", "Try 'prune'"):
        made.only(["prun"])


def test_an_auxiliary_set_is_one_more_way_to_relearn(tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a ring in dots style")
    made = make_budget({"attacks": [{"name": "relearn", "lr": 1e-3}, {"name": "quantise"}]}, "x")
    more = made.beside(str(tmp_path))
    more.refuse_naming([tiny.concept()])
    assert [e.label for e in more.entries] == ["relearn", "quantise", f"relearn, data {tmp_path.name}"]
    assert (more.entries[-1].attack.data, more.entries[-1].attack.lr) == (str(tmp_path.resolve()), 1e-3)
    with raises_error("auxiliary-without-relearn", str(tmp_path), "--attack relearn"):
        made.only(["quantise"]).beside(str(tmp_path))
    (tmp_path / "a.txt").write_text("a ring in glow style")  # the concept's other name
    with raises_error("caption-names-concept", "a ring in glow style"):
        more.refuse_naming([tiny.concept()])
    (tmp_path / "a.txt").write_text("a picturesque ring")
    with raises_error("unreadable-captions", "a picturesque ring"):
        more.refuse_unread(tiny.model())
    loaded = made.beside("datasets:owner/pictures").entries[-1]  # a name and no path
    assert (loaded.label, loaded.attack.data) == ("relearn, data pictures", "datasets:owner/pictures")
    mine = make_budget({"attacks": [{"name": "relearn", "data": str(tmp_path / "none")}]}, "x")
    with raises_error("missing-data", str(tmp_path / "none")):
        mine.refuse_naming([tiny.concept()])


def test_an_attack_of_ones_own_is_found_by_import():
    assert find_attack("audit.toys:Undo", allow_code=True).__name__ == "Undo"


@pytest.mark.parametrize("name", builtin())
def test_every_budget_that_comes_along_builds(name: str):
    made = read_budget(name)
    assert made.pictures >= 12
    assert {e.name for e in made.entries} <= ATTACKS.keys()
    assert all(e.attack.strengths[0] == 0 and len(e.attack.strengths) > 1 for e in made.entries)


@pytest.mark.parametrize("name", builtin())
def test_every_budget_that_comes_along_is_priced(name: str, tmp_path: Path):
    """On the canvas's own words, with a network that only counts: nothing is computed, and no setting is out of place there."""
    victim = Victim(tiny.session(cache=Store(tmp_path)), tiny.concept(), pictures=2)
    for entry in read_budget(name).entries:
        forwards, backwards = entry.attack.cost(victim)
        assert forwards >= backwards >= 0
    assert not list(tmp_path.iterdir())


def test_the_larger_budgets_try_all_that_there_is():
    tried = {name: {e.name for e in read_budget(name).entries} for name in builtin()}
    assert tried["quick"] < tried["standard"] == tried["full"] == set(ATTACKS)
    assert (tried["relearning"], tried["adaptive"]) == ({"relearn"}, {"inversion", "relearn", "noise-optimisation"})
    sizes = [len(read_budget(name).entries) for name in builtin()]
    assert sizes == [12, 35, 47, 19, 12]  # as docs/how-to/audit.md has them
    assert [read_budget(name).pictures for name in builtin()] == [16, 48, 96, 33, 16]


def _is_plain(attack: Relearn) -> bool:
    return (attack.data, attack.whiten, attack.repeat) == ("base", None, None)


def test_the_budget_of_relearning_varies_everything_that_an_attacker_may():
    tried = [e.attack for e in read_budget("relearning").entries]
    assert all(len({a.lr for a in tried if a.variant == v and _is_plain(a)}) >= 2 for v in ("xattn-kv", "xattn", "xattn-lora", "full"))
    assert {a.data for a in tried} == {"base", "retain"}
    assert {a.repeat for a in tried} == {None, 1, 2}
    assert {a.whiten_layers for a in tried if a.whiten} == {None, True}
    assert len(set(tried)) == len(tried)


def test_the_adaptive_budget_restarts_a_learned_word_of_four_tokens():
    words = [e.attack for e in read_budget("adaptive").entries if e.name == "inversion"]
    assert {(a.tokens, a.repeat) for a in words} == {(n, r) for n in (1, 4) for r in (None, 1, 2)}
    assert {(a.shown, a.steps) for a in words} == {(16, 300)}


@pytest.mark.parametrize("name", ["standard", "full"])
def test_the_larger_budgets_relearn_in_every_set_of_weights_at_two_rates_or_more(name: str):
    tried = [(e.attack.variant, e.attack.lr) for e in read_budget(name).entries if e.name == "relearn" and _is_plain(e.attack)]
    assert all(sum(v == variant for v, _ in tried) >= 2 for variant in ("xattn-kv", "xattn", "xattn-lora", "full"))
    assert len(set(tried)) == len(tried)


@pytest.mark.parametrize("name", builtin())
def test_a_budget_as_plain_values_is_the_same_budget(name: str):
    made = read_budget(name)
    assert make_budget(json.loads(json.dumps(made.table)), name).entries == made.entries


def test_files_that_settings_name_are_another_attack_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()  # a word that is a setting is no path, whatever lies there
    (tmp_path / "base" / "x").write_text("x")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_text("x")
    data = ("base", f"datasets:{tmp_path / 'set'}", "set")  # the last one within the working folder
    made, loaded, near = make_budget({"attacks": [{"name": "relearn", "data": d} for d in data]}, "x").entries
    assert made.found_on_disk == []
    assert [f[:2] for f in loaded.found_on_disk] == [(str(tmp_path / "set" / "train.parquet"), 1)]
    assert [f[:2] for f in near.found_on_disk] == [("set/train.parquet", 1)]
