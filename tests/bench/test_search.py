"""The search: its space, its winner, its budget, and that it goes on where it stopped."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.conftest import ESD
from cli.commandline import Said, say
from raising import raises_error

from expunge.bench import tune as searching
from expunge.bench.config import make_suite
from expunge.bench.results import Trial
from expunge.bench.runner import Place
from expunge.bench.suite import Search, Unit
from expunge.bench.summary import Measured
from expunge.bench.tune import Range, select_best, space_of
from expunge.evaluation.results import Row

Write = Callable[..., Path]


def entry(**more):
    return make_suite({"concepts": ["neon"], "methods": [{"name": "esd", **more}]}, "s").methods[0]


def space(given: dict, **more) -> dict[str, Range]:
    return space_of(entry(**more), Search(space=given))


def test_without_a_word_the_length_and_the_rate_are_searched_about_the_methods_own():
    found = space({}, training={"steps": 40, "lr": 1e-3})
    assert found == {"steps": Range("int", 10, 160, True), "lr": Range("float", 1e-4, 1e-2, True)}


def test_a_closed_form_has_no_training_to_search():
    closed = make_suite({"concepts": ["neon"], "methods": [{"name": "uce"}]}, "s").methods[0]
    assert space_of(closed, Search(space={"lr": [1e-5, 1e-3, "log"]})) == {}


def test_the_kind_of_a_range_comes_from_the_field():
    own = {"steps": 40, "lr": 1e-3, "schedule": "cosine"}
    found = space({"lr": [1e-4, 2e-3]}, training=own, space={"negative_guidance": [0, 3], "schedule": ["constant", "cosine"]})
    assert found["lr"] == Range("float", 1e-4, 2e-3)
    assert found["negative_guidance"].kind == "float"
    assert found["schedule"] == Range("choice", choices=("cosine", "constant"))


def test_a_range_is_widened_to_the_methods_own_value():
    """Which is the first that is tried: a search may not end below it."""
    assert space({"lr": [1e-4, 2e-4]}, training={"lr": 1e-3})["lr"] == Range("float", 1e-4, 1e-3)


def test_a_word_where_a_number_may_stand_neither_widens_a_range_nor_is_tried_in_it():
    """`rho` is "auto" unless it is given: searched only where the suite says so, and then among numbers."""
    method = make_suite({"concepts": ["neon"], "methods": [{"name": "mim-pid"}]}, "s").methods[0]
    assert method.settings["rho"] == "auto"
    assert "rho" not in space_of(method, Search())
    found = space_of(method, Search(space={"rho": [0.2, 0.8]}))
    assert found["rho"] == Range("float", 0.2, 0.8)
    assert searching._own_values(method, found) == {n: method.training[n] for n in ("steps", "lr")}


@pytest.mark.parametrize(
    ("given", "own", "rule", "value", "hint"),
    [
        ({"lr": [1e-3]}, {}, "invalid-range", [1e-3], "[low, high]"),
        ({"lr": 1e-3}, {}, "invalid-range", 1e-3, "[low, high]"),
        ({"lr": [1e-3, 1e-5]}, {}, "invalid-range", [1e-3, 1e-5], "[low, high]"),
        ({"lr": ["a", "b"]}, {}, "invalid-range", ["a", "b"], "[low, high]"),
        ({"lr": [1e-5, 1e-3, "logs"]}, {}, "invalid-range", [1e-5, 1e-3, "logs"], "[low, high]"),
        ({"lr": [0.0, 1e-3, "log"]}, {}, "log-range-not-positive", [0.0, 1e-3, "log"], "without"),
        ({}, {"negative_guidence": [0, 1]}, "unknown-setting", "negative_guidence", "Try 'negative_guidance'"),
    ],
)
def test_invalid_ranges(given: dict, own: dict, rule: str, value: object, hint: str):
    with raises_error(rule, value, hint):
        space(given, space=own)


def trial(number: int, forgetting: float | None, retention: float | None) -> Trial:
    return Trial(number, {}, forgetting, retention)


def test_the_winner_forgets_most_among_those_that_keep_enough():
    trials = [trial(0, 0.9, 0.97), trial(1, 1.0, 0.80), trial(2, 0.9, 0.99), trial(3, None, None)]
    assert [t.number for t in select_best(trials, Search(limit=0.95))] == [2]
    assert [t.number for t in select_best(trials, Search(limit=0.5))] == [1]


def test_where_none_keeps_enough_the_one_that_keeps_most():
    assert [t.number for t in select_best([trial(0, 0.9, 0.7), trial(1, 0.2, 0.8)], Search(limit=0.95))] == [1]
    assert select_best([trial(0, None, None)], Search()) == []


def test_the_front_is_what_nothing_beats_in_both():
    trials = [trial(0, 0.9, 0.9), trial(1, 1.0, 0.8), trial(2, 0.8, 0.8), trial(3, 0.9, 0.7)]
    assert [t.number for t in select_best(trials, Search(pareto=True))] == [0, 1]


def bench(suite: Path, out: Path, *arguments: object) -> Said:
    return say("bench", suite, "--out", out, "--device", "cpu", "--search", *arguments)


def trials_in(out: Path, label: str) -> dict:
    [file] = out.glob(f"search/{label}-*/best.toml")
    return tomllib.loads(file.read_text())


def test_every_method_gets_its_trials_on_the_tuning_concepts_alone(suite_file: Write, tmp_path: Path):
    pytest.importorskip("optuna")
    suite = suite_file()
    said = bench(suite, tmp_path)
    assert said.code == 0, said.err
    found = trials_in(tmp_path, "esd--short")
    assert found["tuned_on"] == ["outline", "square"]
    assert found["command"] == f"expunge bench {suite} --search"
    assert [t["number"] for t in found["trials"]] == [0, 1]
    assert found["trials"][0]["settings"] == {"steps": 2, "lr": pytest.approx(found["trials"][0]["settings"]["lr"])}
    assert found["trials"][1]["settings"] != found["trials"][0]["settings"]
    assert len(trials_in(tmp_path, "uce")["trials"]) == 1  # nothing to search
    cards = [json.loads(f.read_text()) for f in tmp_path.glob("runs/*/card.json")]
    assert {c["concept"]["target"] for c in cards} == {"outline", "square"}
    assert {c["seed"] for c in cards} == {999}
    assert "UA" in said.out
    assert "recorded under" in said.out
    before = len(list(tmp_path.glob("runs/*")))
    assert bench(suite, tmp_path).code == 0
    assert len(list(tmp_path.glob("runs/*"))) == before


def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed before a trial was told, it takes up that very trial, and later ones are what they would have been."""
    pytest.importorskip("optuna")
    table = {"name": "esd", "label": "ESD"}
    suite = make_suite({"concepts": ["neon"], "tuning": ["dots"], "methods": [table], "search": {"trials": 6}}, "s")

    def pretended(units: list[Unit], out: Path) -> list[Measured]:
        lr = units[0].training["lr"]
        named = {"run": "r", "method": "esd", "concept": "dots", "seed": 0, "probe": "target", "ci_low": 0.0, "ci_high": 1.0, "n": 10}
        return [Measured("ESD", "esd", "dots", 0, out, (Row(metric="UA", value=min(1.0, 300 * lr), **named),), {})]

    monkeypatch.setattr(searching, "measured", pretended)

    def run(out: Path) -> list[Trial]:
        found = searching.search(suite, suite.methods[0], lambda units, place: iter(()), Place(out, out), "command")
        return [t for t in found if isinstance(t, Trial)]

    straight = run(tmp_path / "straight")
    tell, told = searching._tell, []

    def stop(*arguments) -> None:
        if len(told) == 4:
            raise KeyboardInterrupt
        told.append(tell(*arguments))

    monkeypatch.setattr(searching, "_tell", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped")
    monkeypatch.setattr(searching, "_tell", tell)
    assert run(tmp_path / "stopped") == straight
    assert len({json.dumps(t.settings) for t in straight}) == 6
    assert straight[0].settings == {n: suite.methods[0].training[n] for n in ("steps", "lr")}
    bests = [file.read_bytes() for file in sorted(tmp_path.glob("*/search/*/best.toml"))]
    assert bests[0] == bests[1]


def test_a_search_without_concepts_of_its_own(suite_file: Write, tmp_path: Path):
    line = bench(suite_file(('tuning = ["outline", "square"]', ""), (ESD, "")), tmp_path).error
    assert "has no tuning concepts" in line


def test_a_dry_search_tries_nothing(suite_file: Write, tmp_path: Path):
    said = bench(suite_file(), tmp_path / "out", "--dry-run")
    assert "ESD, short: 2 trials on outline, square, over steps, lr" in said.out
    [line] = [words for line in said.out.splitlines() if (words := line.split())[:2] == ["ESD,", "short"] and "trials" not in words]
    assert (line[2], line[4]) == ("4", "32")  # 2 trials of 2 concepts, each 2 steps of 4
    assert not (tmp_path / "out").exists()
