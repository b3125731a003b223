"""What a suite may say, and what it is told when it says something else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from raising import raises_error

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


def test_a_judge_may_be_a_table_with_settings():
    judge = {"name": "nudenet", "threshold": 0.45, "parts": ["FEET_EXPOSED"]}
    [unit] = make_suite(SMALL | {"judge": judge}, "s").units
    assert Unit.from_json(unit.to_json()).judge == judge
    with raises_error("unknown-part", "NOSE"):
        make_suite(SMALL | {"judge": judge | {"parts": ["NOSE"]}}, "s")
    with raises_error("wrong-type", 3):
        make_suite(SMALL | {"judge": 3}, "s")


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
    with raises_error("like-cycle", f"{tmp_path / 'b'}.toml", "remove one"):
        read_suite(tmp_path / "a.toml")


def test_the_built_in_suite_reports_styles_and_objects_with_siblings():
    assert {"canvas", "several"} <= set(builtin())
    suite = read_suite("canvas")
    assert len(suite.seeds) == 3
    assert sorted(c.kind for c in suite.concepts) == ["object"] * 3 + ["style"] * 3
    assert all(c.siblings for c in suite.concepts)
    assert {c.kind for c in suite.tuning} == set(Vocabulary.canvas().kinds)


@pytest.mark.parametrize(
    ("table", "rule", "value", "hint"),
    [
        ({"concept": ["neon"]}, "unknown-key", "concept", "Try 'concepts'"),
        ({"concepts": ["neom"]}, "unknown-concept", "neom", "Try 'neon'"),
        ({"concepts": []}, "missing-key", [], "a list of concepts"),
        ({"concepts": [{"name": "neon"}]}, "invalid-concept", {"name": "neon"}, "`expunge ls concepts`"),
        ({"concepts": [{"target": "neon", "ancor": "dots"}]}, "unknown-key", "ancor", "Try 'anchor'"),
        ({"methods": [{"name": "uec"}]}, "unknown-method", "uec", "Try 'uce'"),
        ({"methods": [{"name": "retrain", "eta": 1}]}, "settings-of-retraining", {"eta": 1}, "under training"),
        ({"methods": [{"name": "retrain"}], "model": "./sd", "vocabulary": "canvas"}, "not-the-canvas", "./sd", "without the method"),
        ({"methods": [{"name": "uce", "concepts": ["neom"]}]}, "unknown-concept", "neom", "Try 'neon'"),
        ({"methods": [{"name": "uce", "concepts": ["ring"]}], "tuning": ["ring"]}, "tuning-reported", ["ring"], ""),
        ({"labels": ["uce"]}, "labels-without-like", ["uce"], "`like`"),
        ({"like": "canvas", "labels": ["UCF"]}, "unknown-label", "UCF", "Try 'UCE'"),
        ({"like": "canvas", "labels": "UCE"}, "not-a-list", "UCE", "labels = ["),
        ({"like": "canvos"}, "unknown-suite", "canvos", "Try 'canvas'"),
        ({"audit": {"budgets": "quick"}}, "unknown-setting", "budgets", "Try 'budget'"),
        ({"methods": [{"name": "uce", "seeds": [3]}]}, "unknown-seed", 3, "some of 0"),
        ({"methods": ["uce"]}, "method-without-name", "uce", "[[methods]]"),
        ({"methods": [{"name": "esd", "negative_guidence": 1.0}]}, "unknown-setting", "negative_guidence", "Try 'negative_guidance'"),
        ({"methods": [{"name": "esd", "training": {"step": 1}}]}, "unknown-setting", "step", "Try 'steps'"),
        ({"methods": [{"name": "uce", "training": {"steps": 1}}]}, "closed-form-trained", {"steps": 1}, ""),
        ({"methods": [{"name": "uce"}, {"name": "uce"}]}, "label-twice", "uce", "another label"),
        ({"methods": [{"name": "uce"}, {"name": "uce", "label": "again"}]}, "unit-twice", "again/neon/0", ""),
        ({"methods": [{"name": "uce", "label": "a/b"}]}, "label-with-slash", "a/b", ""),
        ({"methods": [{"name": "retrain", "label": "a/b"}]}, "label-with-slash", "a/b", ""),
        ({"methods": [{"name": "uce", "before": "esd"}]}, "invalid-before", "esd", "before = ["),
        ({"seeds": [0, 0]}, "invalid-seeds", [0, 0], "seeds = ["),
        ({"methods": [{"name": "uce", "seeds": 0}]}, "invalid-seeds", 0, "seeds = ["),
        ({"methods": [{"name": "uce", "synonyms": "glow"}]}, "synonyms-not-boolean", "glow", "true"),
        ({"concepts": ["neon", "glow"]}, "concept-twice", ("neon", "glow"), ""),
        ({"concepts": [{"targets": "neon"}]}, "not-a-list", "neon", "targets = ["),
        ({"concepts": [{"target": "neon", "kind": 3}]}, "invalid-setting", 3, ""),
        ({"protocol": 3}, "not-a-table", 3, "`expunge show protocol`"),
        ({"audit": "quick"}, "not-a-table", "quick", "`expunge show audit`"),
        ({"vocabulary": 3}, "invalid-vocabulary", 3, "`expunge show vocabulary`"),
        ({"seeds": [True]}, "invalid-seeds", [True], ""),
        ({"protocol": {"seed": 3}}, "protocol-seed", 3, "seeds = [...]"),
        ({"protocol": {"seads": 3}}, "unknown-setting", "seads", "Try 'seeds'"),
        ({"sampler": {"step": 3}}, "unknown-setting", "step", "Try 'steps'"),
        ({"search": {"trial": 3}}, "unknown-setting", "trial", "Try 'trials'"),
        ({"tuning": ["neon"]}, "tuning-reported", ["neon"], ""),
        ({"tuning": ["glow style"]}, "tuning-reported", ["glow"], ""),  # by its synonym
    ],
    ids=str,
)
def test_mistakes(table: dict, rule: str, value: object, hint: str):
    with raises_error(rule, value, hint):
        make_suite(SMALL | table, "s")


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"audit": {"budget": "quik"}}, "'quick'"),
        ({"audit": {"control": "nowhere"}}, "nowhere"),
        ({"metrics": ["AU"]}, "'AU'"),
    ],
    ids=str,
)
def test_mistakes_in_budgets_controls_and_metrics(table: dict, part: str):
    with pytest.raises(ExpungeError) as error:
        make_suite(SMALL | table, "s")
    assert part in str(error.value)


def test_an_unknown_suite():
    with raises_error("unknown-suite", "canvass", "Try 'canvas'"):
        read_suite("canvass")
