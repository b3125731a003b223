"""What benchmarks/attacked.py keeps of audits, and what it makes of it."""

import json
from dataclasses import asdict, replace
from importlib import import_module
from math import inf
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from expunge.audits.budget import make_budget
from expunge.evaluation.results import Row
from expunge.evaluation.statistics import wilson

BUDGET = 'pictures = 20\n[[attacks]]\nname = "relearn"\nlr = 5e-4\n[[attacks]]\nname = "relearn"\nlr = 1e-3\n'
SLOW, FAST = "relearn, lr 0.0005", "relearn, lr 0.001"


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return import_module("attacked")


def audit(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True)
    (folder.parent / "bench.json").write_text(json.dumps({"of": {"label": "ESD", "concept": "neon", "seed": 0}}))
    (folder / "audit.json").write_text(json.dumps({"run": "esd-neon-1", "control": "retrain-neon-1", "seed": 0}))
    (folder / "budget.toml").write_text(BUDGET)
    (folder / "rows.jsonl").write_text("".join(json.dumps(asdict(r)) + "\n" for r in rows))
    return folder


def row(run: str, attack: str, strength: float, hits: int, judge: str = "main") -> Row:
    return Row(run, "", "neon", 0, "target", "ASR", *wilson(hits, 20), 20, attack, strength, judge)


def test_every_reading_of_every_model_is_kept_with_the_settings_it_was_made_under(attacked, tmp_path):
    ladder = [
        row(run, SLOW, at, 3, judge) for run in ("esd-neon-1", "base", "retrain-neon-1") for judge in ("main", "second") for at in (0, 25)
    ]
    found = list(attacked.curves(audit(tmp_path / "esd-neon-0-abc" / "audit", [*ladder, row("esd-neon-1", FAST, 0, 7)])))
    assert [c.of for c in found] == ["esd-neon-0-abc", "base model", "retrained", "esd-neon-0-abc"]
    assert [c.label for c in found] == ["ESD", "base model", "retrained", "ESD"]
    assert [c.attack["lr"] for c in found] == [5e-4, 5e-4, 5e-4, 1e-3]
    assert found[0].readings == tuple({"strength": at, "n": 20, "hits": {"main": 3, "second": 3}} for at in (0, 25))
    assert len({c.key for c in found}) == 4
    again = attacked.curves(audit(tmp_path / "esd-neon-0-def" / "audit", ladder))  # by other code: the id differs
    assert {c.key for c in again} == {c.key for c in found[:3]}


def curve(attacked, of: str, *hits: int, concept: str = "neon"):
    readings = [{"strength": float(at), "n": 100, "hits": {"main": h}} for at, h in zip((0, 25, 1000), hits, strict=True)]
    return attacked.Curve(of, concept, 0, {"name": "relearn"}, tuple(readings), of.removesuffix("-1"))


UNITS = [SimpleNamespace(label=label) for label in ("ESD", "CA", "DiMUM")]


def relearned(attacked, *curves):
    return attacked.Relearned(curves, UNITS)


def test_every_run_is_compared_with_its_control_each_at_its_best(attacked):
    found = relearned(
        attacked, *(curve(attacked, *c) for c in (("ESD-1", 0, 90, 40), ("retrained", 0, 5, 10), ("base model", 100, 99, 98)))
    )
    assert found.apart("ESD") == pytest.approx((0.9 - 0.1, -inf, inf))
    said = "\n".join(found.claims())
    assert "| DiMRA brings back what ESD removed (2512.03564) | more than 5 points above the retrained model | 80.0 points; " in said
    assert "80.0 points; after 1000 steps 30.0 points; 1 run of 1" in said
    assert "| ESD | 1 | 0 | 90 | 40 |" in found.table()
    assert "| ESD | 90 |" in found.each()


@pytest.mark.parametrize(
    ("hits", "outcome"),
    [((0, 1, 2), "holds"), ((90, 91, 92), "does not hold"), ((0, 13, 26), "holds in the mean, the interval reaches past the bar")],
)
def test_dimum_is_to_stay_within_five_points_of_the_control(attacked, hits, outcome):
    def said(*concepts: str) -> str:
        mine = [curve(attacked, "DiMUM-1", 0, at_best, 0, concept=c) for c, at_best in zip(concepts, hits, strict=False)]
        found = relearned(attacked, *mine, *(curve(attacked, "retrained", 0, 10, 10, concept=c) for c in concepts))
        [line] = [text for text in found.claims() if "DiMUM removed in whitened" in text]
        return line

    assert said("neon", "ring", "dots").endswith(f"| {outcome} |")
    assert "| of too few concepts: " in said("neon", "ring")


def test_attackers_who_try_other_settings_have_lines_of_their_own(attacked):
    budget = make_budget(
        {"pictures": 100, "attacks": [{"name": "relearn", "lr": lr, "label": f"at {lr:g}"} for lr in (1e-4, 1e-3)]}, "rates"
    )

    def under(nth: int, of: str, *hits: int, concept: str = "neon"):
        entry = budget.entries[nth]
        return replace(curve(attacked, of, *hits, concept=concept), attack={"name": entry.name, **entry.settings})

    mine = [under(0, "ESD-1", 0, 3, 1), under(1, "ESD-1", 0, 40, 2), under(1, "CA-1", 50, 60, 60), under(1, "retrained", 0, 7, 9)]
    other = curve(attacked, "ESD-1", 0, 99, 99)  # of another budget
    table = attacked.by_attacker([*mine, other, under(0, "retrained", 0, 1, 0, concept="ring")], UNITS, budget)
    assert table.splitlines() == [
        "| attacker | concept | ESD | retrained |",
        "|---|---|---:|---:|",
        "| at 0.0001 | neon | 3 | – |",
        "| at 0.0001 | ring | – | 1 |",
        "| at 0.001 | neon | 40 | 9 |",
    ]


def test_differences_are_those_of_concepts_each_the_mean_of_its_seeds(attacked):
    """By hand: the means of the concepts are 0.2 and 0.4; s = 0.1 sqrt 2, t(1) = 12.706."""
    found = attacked.paired({("neon", 0): 0.1, ("neon", 1): 0.3, ("ring", 0): 0.4})
    assert found == pytest.approx((0.3, 0.3 - 12.706 * 0.1, 0.3 + 12.706 * 0.1), rel=1e-3)
    with pytest.raises(import_module("claims").Missing):
        attacked.paired({})


def test_what_was_not_gone_before_has_nothing_to_come_back_from(attacked):
    found = relearned(
        attacked,
        *(curve(attacked, "ESD-1", left, 60, 60, concept=concept) for concept, left in (("neon", 10), ("ring", 11))),
        *(curve(attacked, "retrained", 0, 20, 20, concept=concept) for concept in ("neon", "ring")),
        curve(attacked, "base model", 100, 100, 100),
        curve(attacked, "base model", 100, 100, 100, concept="ring"),
    )
    assert [c.concept for c in found.gone("ESD")] == ["neon"]
    assert "| ESD | 60 | not gone before |" in found.each()
    assert len(found.beside("ESD")) == 1


def test_nothing_is_said_without_the_control_of_the_same_concept(attacked):
    found = relearned(attacked, curve(attacked, "ESD-1", 0, 60, 60), curve(attacked, "retrained", 0, 20, 20, concept="ring"))
    assert next(text for text in found.claims() if "ESD" in text).endswith("| – | not measured |")


def test_what_was_never_gone_is_told_from_what_was_not_measured(attacked):
    found = relearned(attacked, curve(attacked, "ESD-1", 11, 60, 60), curve(attacked, "retrained", 0, 20, 20))
    said = {text.split(" removed")[0]: text for text in found.claims()}
    assert "| gone before in none of 1 run of 1 concept | nothing to come back from |" in said["| DiMRA brings back what ESD"]
    assert said["| DiMRA brings back what CA"].endswith("| – | not measured |")


@pytest.mark.parametrize(
    ("base", "retrained", "said"),
    [(100, 0, ("holds", "holds")), (80, 30, ("does not hold", "does not hold"))],
)
def test_relearning_is_a_measure_from_its_first_reading_on(attacked, base, retrained, said):
    """A guess sees one of 10 styles, or one of 20 objects: 7.5 % over one of each."""
    both = [(of, c, hits) for of, hits in (("base model", base), ("retrained", retrained)) for c in ("neon", "ring")]
    works, honest = attacked.at_once([curve(attacked, of, 50, hits, 50, concept=c) for of, c, hits in both])
    assert "| at least 90 % after 25 steps |" in works
    assert "| at most 7.5 % after 25 steps |" in honest
    assert "; 2 runs of 2 concepts, 100 pictures each | " in honest
    assert (works.endswith(f" {said[0]} |"), honest.endswith(f" {said[1]} |")) == (True, True)
    assert [text.endswith("| – | – | not measured |") for text in attacked.at_once([])] == [True, True]


ONE_OF_EACH = {
    "pictures": 20,
    "attacks": [{"name": "relearn", "lr": 5e-4}, {"name": "wording", "form": "synonyms"}, {"name": "wording", "form": "paraphrases"}],
}


@pytest.fixture
def battered(attacked):
    """Readings at strengths 0, 1, 2 ... of attacks, as `(of, concept, attack's place in the budget, hits)`."""
    budget, battery = make_budget(ONE_OF_EACH, "battery"), import_module("battery")

    def found(*readings: tuple[str, str, int, list[int]]):
        curves = []
        for of, concept, nth, hits in readings:
            entry = budget.entries[nth]
            ladder = tuple({"strength": float(s), "n": 20, "hits": {"main": h}} for s, h in enumerate(hits))
            curves.append(attacked.Curve(of, concept, 0, {"name": entry.name, **entry.settings}, ladder, of.removesuffix("-1")))
        return battery.Battered(curves, UNITS, budget)

    return found


def test_a_line_shows_each_attack_at_the_settings_and_strength_that_serve_it_best(battered):
    found = battered(
        ("ESD-1", "neon", 0, [0, 4, 2]),
        ("ESD-1", "ring", 0, [0, 0, 8]),
        ("ESD-1", "neon", 1, [0, 1]),
        ("ESD-1", "neon", 2, [0, 10]),
        ("CA-1", "neon", 0, [3, 20, 20]),  # not gone before: nothing to come back from
        ("base model", "neon", 0, [20, 19, 18]),
    )
    training, others = (part.splitlines() for part in found.tables().split("\n\n"))
    assert training[0] == "|  | runs | plain prompts | relearn |"
    assert others[0] == "|  | runs | wording |"

    def cells(lines: list[str]) -> list[str]:
        [esd] = [line for line in lines if line.startswith("| ESD")]
        return [c.split(" ")[0] for c in esd.strip("| ").split(" | ")]

    assert cells(training) == ["ESD", "2", "0", "30"]  # (4 + 8) / 40
    assert cells(others) == ["ESD", "2", "50"]  # the better wording of the one run
    assert "| base model | 1 | 100 [" in found.tables()
    assert "| CA | 0 of 1 | – | – |" in found.tables()


def test_some_runs_of_a_label_that_was_not_gone_are_counted_and_left_out(battered):
    found = battered(("ESD-1", "neon", 0, [0, 4, 2]), ("ESD-1", "ring", 0, [20, 20, 20]))
    assert "| ESD | 1 of 2 | 0 [0, 16] | 20 [" in found.tables()


@pytest.mark.parametrize(("hits", "outcome"), [((4, 5, 6), "holds"), ((20, 20, 20), "does not hold")])
def test_a_learned_word_is_to_find_no_more_than_where_it_never_was(attacked, hits, outcome):
    budget, battery = make_budget({"pictures": 20, "attacks": [{"name": "inversion"}]}, "battery"), import_module("battery")
    settings = {"name": "inversion", **budget.entries[0].settings}

    def said(*concepts: str) -> list[str]:
        curves = [
            attacked.Curve(
                f"{of}-1", concept, 0, settings, tuple({"strength": float(s), "n": 20, "hits": {"main": h}} for s, h in ladder), of
            )
            for concept, found in zip(concepts, hits, strict=False)
            for of, ladder in (("DiMUM", ((0, 0), (50, found), (100, 0))), ("retrained", ((0, 0), (50, 2), (100, 9))))
        ]
        return [
            text
            for text in battery.Battered(curves, UNITS, budget).claims()
            if text.startswith("| what DiMUM removed in whitened steps does not come back by a learned word |")
        ]

    [line] = said("neon", "ring", "dots")
    assert line.endswith(f"; 3 runs of 3 concepts | {outcome} |")
    assert "| of too few concepts: " in said("neon", "ring")[0]
    assert said() == []


@pytest.mark.parametrize(
    ("base", "retrained", "said"),
    [([20, 20, 0], [0, 1, 20], ("holds", "in the mean")), ([20, 3, 20], [0, 20, 0], ("does not hold", "does not hold"))],
)
def test_the_controls_say_whether_the_attack_works_and_is_honest(battered, base, retrained, said):
    readings = [(of, c, 0, hits) for of, hits in (("base model", base), ("retrained", retrained)) for c in ("neon", "ring")]
    found = battered(*readings)
    works, honest, *_ = found.claims()
    assert "at least 90 % after 1 steps" in works
    assert "at most 7.5 % after 1 steps" in honest  # a guess: one of 10 styles, one of 20 objects
    assert (said[0] in works, said[1] in honest) == (True, True)
