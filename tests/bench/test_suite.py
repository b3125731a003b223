"""What a suite may say, and what it is told when it says something else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.bench.config import builtin, make_suite, read_suite
from expunge.bench.suite import Unit
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError

SMALL = {"concepts": ["neon"], "methods": [{"name": "uce"}]}


def test_units_are_methods_times_concepts_times_seeds_seed_by_seed(suite_file: Callable[..., Path]):
    units = read_suite(suite_file(('concepts = ["neon"]', 'concepts = ["neon", "ring"]'))).units
    labels, concepts = ("ESD, short", "uce"), ("neon", "ring")
    assert [u.name for u in units] == [f"{m}/{c}/{s}" for s in (0, 1) for m in labels for c in concepts]
    assert [u.protocol["seed"] for u in units] == [0] * 4 + [1] * 4


def test_a_unit_goes_through_text_unchanged(suite_file: Callable[..., Path]):
    for unit in read_suite(suite_file()).units:
        assert Unit.from_json(unit.to_json()) == unit


def test_what_is_measured_does_not_decide_the_run(suite_file: Callable[..., Path]):
    """Another metric or label must not train again; another setting must."""
    ids = [u.id for u in read_suite(suite_file()).units]
    same = suite_file(('"UA", "IRA"', '"UA"'), ("ESD, short", "other"), ("target_seeds = 1", "target_seeds = 2"))
    assert [u.id for u in read_suite(same).units] == ids
    other = [u.id for u in read_suite(suite_file(("steps = 2, b", "steps = 3, b"))).units]
    assert [a == b for a, b in zip(ids, other, strict=True)] == [False, True, False, True]


def test_synonyms_are_given_where_they_are_asked_for():
    suite = make_suite({"concepts": ["neon", "hoop"], "methods": [{"name": "uce", "synonyms": True}]}, "s")
    assert [(u.concept["target"], u.concept["synonyms"]) for u in suite.units] == [("neon", ["glow"]), ("hoop", ["ring"])]


def test_an_entry_may_have_fewer_seeds_than_the_suite():
    table = {"concepts": ["neon"], "seeds": [0, 1], "methods": [{"name": "uce"}, {"name": "esd", "seeds": [1]}]}
    assert [u.name for u in make_suite(table, "s").units] == ["uce/neon/0", "uce/neon/1", "esd/neon/1"]


def test_retraining_stands_among_the_methods():
    suite = make_suite({"concepts": ["neon"], "methods": [{"name": "retrain", "training": {"steps": 7}}]}, "s")
    (unit,) = suite.units
    assert (unit.method, unit.training["steps"], unit.training["batch_size"]) == ("retrain", 7, 64)


def test_an_entry_may_have_concepts_of_its_own():
    table = {"concepts": ["neon", "ring"], "methods": [{"name": "uce"}, {"name": "retrain", "concepts": [["neon", "ring"]]}]}
    assert [u.name for u in make_suite(table, "s").units] == ["uce/neon/0", "uce/ring/0", "retrain/neon + ring/0"]


def test_attacks_do_not_decide_the_run_and_retrained_models_are_not_attacked():
    table = {"concepts": ["neon"], "methods": [{"name": "uce"}, {"name": "retrain"}]}
    plain, attacked = make_suite(table, "s").units, make_suite(table | {"audit": {"budget": "standard"}}, "s").units
    assert [u.id for u in attacked] == [u.id for u in plain]
    assert [u.audit and u.audit["name"] for u in attacked] == ["standard", None]
    assert Unit.from_json(attacked[0].to_json()) == attacked[0]


def test_a_suite_like_another_differs_in_what_it_says(suite_file: Callable[..., Path]):
    other = suite_file()
    said = {"like": str(other), "labels": ["uce"], "concepts": ["ring"], "methods": [{"name": "esd", "label": "ESD"}]}
    suite = make_suite(said, "s")
    assert [u.name for u in suite.units] == [f"{m}/ring/{s}" for s in (0, 1) for m in ("uce", "ESD")]
    assert suite.metrics == read_suite(other).metrics
    whole = {"like": str(other)}
    assert [u.id for u in make_suite(whole, "s").units] == [u.id for u in read_suite(other).units]  # the same runs, in the same folder
    assert {u.name for u in make_suite({"like": "canvas", "labels": ["UCE"], "seeds": [1]}, "s").units} >= {"UCE/neon/1"}


def test_suites_that_are_like_each_other_are_refused(tmp_path: Path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.toml").write_text(f'like = "{tmp_path / other}.toml"\n')
    with pytest.raises(ExpungeError, match=r"at last like none: .*b.toml is like .*a.toml is like .*b.toml"):
        read_suite(tmp_path / "a.toml")


def test_the_built_in_suite_reports_styles_and_objects_with_siblings():
    assert builtin() == ["canvas", "several"]
    suite = read_suite("canvas")
    assert len(suite.seeds) == 3
    assert sorted(c.kind for c in suite.concepts) == ["object"] * 3 + ["style"] * 3
    assert all(c.siblings for c in suite.concepts)
    assert {c.kind for c in suite.tuning} == set(Vocabulary.canvas().kinds)


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ({"concept": ["neon"]}, ["'concept' is none (nearest: 'concepts')"]),
        ({"concepts": ["neom"]}, ["'neom'", "nearest: 'neon'"]),
        ({"concepts": []}, ["a suite has concepts"]),
        ({"concepts": [{"name": "neon"}]}, ["a table with a target"]),
        ({"concepts": [{"target": "neon", "ancor": "dots"}]}, ["'ancor' is none (nearest: 'anchor')"]),
        ({"methods": [{"name": "uec"}]}, ["'uec' is not a method", "Try 'uce'"]),
        ({"methods": [{"name": "retrain", "eta": 1}]}, ["no settings but those of its training: eta"]),
        ({"methods": [{"name": "retrain"}], "model": "./sd", "vocabulary": "canvas"}, ["the canvas alone is trained anew", "./sd"]),
        ({"methods": [{"name": "uce", "concepts": ["neom"]}]}, ["'neom'", "nearest: 'neon'"]),
        ({"methods": [{"name": "uce", "concepts": ["ring"]}], "tuning": ["ring"]}, ["never both", "ring"]),
        ({"labels": ["uce"]}, ["labels choose among the methods of another suite: 's' is like none"]),
        ({"like": "canvas", "labels": ["UCF"]}, ["labels are of methods of 'canvas': 'UCF' is none (nearest: 'UCE')"]),
        ({"like": "canvas", "labels": "UCE"}, ["labels are a list: 'UCE' is none"]),
        ({"like": "canvos"}, ["'canvos' is neither (nearest: 'canvas')"]),
        ({"audit": {"budgets": "quick"}}, ["nearest: 'budget'"]),
        ({"audit": {"budget": "quik"}}, ["nearest: 'quick'"]),
        ({"audit": {"control": "nowhere"}}, ["card.json"]),
        ({"methods": [{"name": "uce", "seeds": [3]}]}, ["seeds are some of the suite's: 'uce' asks for 3, 's' has 0"]),
        ({"methods": ["uce"]}, ["an entry of methods has a name: 'uce'"]),
        ({"methods": [{"name": "esd", "negative_guidence": 1.0}]}, ["nearest: 'negative_guidance'"]),
        ({"methods": [{"name": "esd", "training": {"step": 1}}]}, ["nearest: 'steps'"]),
        ({"methods": [{"name": "uce", "training": {"steps": 1}}]}, ["a closed form is not trained"]),
        ({"methods": [{"name": "uce"}, {"name": "uce"}]}, ["'uce' stands there twice"]),
        ({"methods": [{"name": "uce"}, {"name": "uce", "label": "again"}]}, ["again/neon/0 stands in 's' twice"]),
        ({"methods": [{"name": "uce", "label": "a/b"}]}, ["'a/b'"]),
        ({"seeds": [0, 0]}, ["different whole numbers"]),
        ({"methods": [{"name": "uce", "seeds": 0}]}, ["seeds are different whole numbers: 'uce' has 0"]),
        ({"methods": [{"name": "uce", "synonyms": "glow"}]}, ["true or false: 'uce' has 'glow'"]),
        ({"concepts": ["neon", "glow"]}, ["reports a concept once", "'neon' and 'glow'"]),
        ({"concepts": [{"target": "neon", "kind": 3}]}, ["concept: kind: ", "valid string"]),
        ({"protocol": 3}, ["protocol is a table of settings: 3 is none"]),
        ({"audit": "quick"}, ["audit is a table of settings: 'quick' is none"]),
        ({"vocabulary": 3}, ["a suite's vocabulary is a name or a file"]),
        ({"seeds": [True]}, ["different whole numbers"]),
        ({"metrics": ["AU"]}, ["'AU' is not a metric", "'UA'"]),
        ({"protocol": {"seed": 3}}, ["unit's own seed"]),
        ({"protocol": {"seads": 3}}, ["nearest: 'seeds'"]),
        ({"sampler": {"step": 3}}, ["nearest: 'steps'"]),
        ({"search": {"trial": 3}}, ["nearest: 'trials'"]),
        ({"tuning": ["neon"]}, ["never both", "neon"]),
        ({"tuning": ["glow style"]}, ["never both", "glow"]),  # by its synonym
    ],
    ids=str,
)
def test_mistakes_are_told(table: dict, parts: list[str]):
    with pytest.raises(ExpungeError) as told:
        make_suite(SMALL | table, "s")
    assert [p for p in parts if p not in str(told.value)] == []


def test_a_suite_that_is_none():
    with pytest.raises(ExpungeError, match=r"'canvass' is neither .nearest: 'canvas'"):
        read_suite("canvass")
