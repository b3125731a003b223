"""Groups of runs, their tables, and comparisons with the base model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from report.folders import row

from expunge.evaluation.results import Row
from expunge.evaluation.statistics import paired_change, wilson
from expunge.reports.comparison import Change, change_of, compare_rows, greatest_fall, is_worse
from expunge.reports.run_view import read_view
from expunge.reports.tables import Key, MetricLine, group_runs, metric_lines

Make = Callable[..., Path]


def lines(folder: Path) -> dict[Key, MetricLine]:
    (found,) = group_runs([read_view(folder)])
    return {line.key: line for line in metric_lines(found.columns[0], found.keys)}


@pytest.mark.parametrize(
    ("metric", "run", "base", "change", "difference"),
    [
        ("UA", (0.9, 0.8, 1.0), (0.1, 0.0, 0.2), "better", "+80.0 points"),
        ("IRA", (0.1, 0.0, 0.2), (0.9, 0.8, 1.0), "worse", "−80.0 points"),
        ("IRA", (0.85, 0.8, 0.9), (0.9, 0.85, 1.0), "unclear", "−5.0 points"),
        ("IRA", (0.7, 0.6, 0.8), (0.9, 0.8, 1.0), "unclear", "−20.0 points"),  # intervals that touch do meet
        ("FID_drawn", (14.0, 13.0, 15.0), (9.0, 8.0, 10.0), "worse", "+5"),
        ("KID_drawn", (0.001, 0.0, 0.002), (0.01, 0.009, 0.011), "better", "−0.009"),
        ("mine", (3.0, 3.0, 3.0), (1.0, 1.0, 1.0), "differs", "+2"),
        ("FID_base", (3.0, 2.0, 4.0), (0.0, 0.0, 0.0), None, ""),  # the base's 0 is a definition, not a measurement
    ],
)
def test_changes_follow_the_metrics_direction(
    run_folder: Make, metric: str, run: tuple, base: tuple, change: Change | None, difference: str
):
    (line,) = lines(run_folder(measured=[row(metric, *run, "siblings"), row(metric, *base, "siblings", "base")])).values()
    assert (line.change, line.difference.text if line.difference else "") == (change, difference)


def measured(metric: str, value: float, low: float, high: float) -> Row:
    return Row("r", "m", "neon", 0, "siblings", metric, value, low, high, 100)


@pytest.mark.parametrize(
    ("metric", "run", "base", "worse"),
    [
        ("IRA", (0.7, 0.6, 0.79), (0.9, 0.8, 1.0), True),
        ("IRA", (0.7, 0.6, 0.80), (0.9, 0.8, 1.0), False),  # intervals that touch do overlap
        ("IRA", (0.9, 0.8, 1.0), (0.7, 0.6, 0.79), False),
        ("FID_drawn", (14.0, 13.0, 15.0), (9.0, 8.0, 10.0), True),  # lower is better
        ("mine", (3.0, 3.0, 3.0), (1.0, 1.0, 1.0), False),  # neither direction is better
    ],
)
def test_worse_than_the_base_model_is_decided_in_one_place(metric: str, run: tuple, base: tuple, worse: bool):
    assert is_worse(measured(metric, *base), measured(metric, *run)) is worse


def test_a_fall_is_bounded_by_the_far_ends_of_both_intervals():
    assert greatest_fall(measured("IRA", 0.9, 0.85, 0.95), measured("IRA", 0.9, 0.8, 0.92)) == pytest.approx(0.15)  # 0.95 - 0.8
    assert greatest_fall(measured("IRA", 0.5, 0.4, 0.6), measured("IRA", 0.9, 0.8, 1.0)) == 0


def paired(metric: str, losses: int, gains: int, n: int = 100) -> tuple[Row, Row]:
    """The rows of the base model, which is right on all images but the gains, and of a run, as an evaluation computes them."""
    base_right = [True] * (n - gains) + [False] * gains
    run_right = [False] * losses + [True] * (n - losses)
    change = paired_change(run_right, base_right, range(n))
    base, run = (measured(metric, *wilson(sum(right), n)) for right in (base_right, run_right))
    return base, replace(run, change=change.value, change_low=change.low, change_high=change.high, losses=losses, gains=gains, p=change.p)


@pytest.mark.parametrize(
    ("losses", "gains", "p", "expected"),
    [
        (6, 0, 2 / 2**6, "worse"),  # 94 of 100 against 100: the separate intervals overlap
        (5, 0, 2 / 2**5, "unclear"),
        (0, 6, 2 / 2**6, "better"),
        (6, 2, 2 * (1 + 8 + 28) / 2**8, "unclear"),
    ],
)
def test_a_paired_change_is_decided_by_its_exact_test(losses: int, gains: int, p: float, expected: Change):
    base, run = paired("IRA", losses, gains)
    assert run.p == pytest.approx(p)
    assert compare_rows(base, run) == expected
    assert is_worse(base, run) is (expected == "worse")
    found = change_of(base, run)
    assert found is not None
    assert (found.value, found.low, found.high) == (run.change, run.change_low, run.change_high)
    assert greatest_fall(base, run) == max(0.0, -(run.change_low or 0.0))


def test_a_paired_change_has_its_interval_in_the_table(run_folder: Make):
    base, run = paired("IRA", 6, 0)
    entries = [row(r.metric, r.value, r.ci_low, r.ci_high, "siblings", of) for r, of in ((base, "base"), (run, "r1"))]
    entries[1] |= {k: getattr(run, k) for k in ("change", "change_low", "change_high", "losses", "gains", "p")}
    (line,) = lines(run_folder(measured=entries)).values()
    assert line.difference is not None
    assert (line.difference.text, line.change) == ("−6.0 points", "worse")
    low, high = (f"{'+' if x >= 0 else '−'}{abs(100 * x):.1f} points" for x in (run.change_low, run.change_high))
    assert line.difference.interval == f"{low} to {high}"


def test_nothing_is_compared_with_what_was_not_measured():
    row = measured("IRA", 0.9, 0.8, 1.0)
    assert (compare_rows(None, row), compare_rows(row, None)) == (None, None)


def test_rows_of_one_metric_stand_apart_by_probe_and_attack(run_folder: Make):
    given = (("target", "relearn", 0.1), ("synonyms", "none", 0.2), ("target", "none", 0.3))
    measured = [row("UA", v, v, v, probe, attack=attack) for probe, attack, v in given]
    found = lines(run_folder(measured=measured))
    assert [(k.probe, k.attack, line.run.value) for k, line in found.items() if line.run] == [
        ("target", "none", 0.3),
        ("synonyms", "none", 0.2),
        ("target", "relearn", 0.1),
    ]


def test_of_rows_measured_twice_the_last_counts(run_folder: Make):
    found = lines(run_folder(measured=[row("UA", 0.1, 0.0, 0.2, "target"), row("UA", 0.9, 0.8, 1.0, "target")]))
    assert [line.run.value for line in found.values() if line.run] == [0.9]


@pytest.mark.parametrize(("second", "disagree"), [((0.7, 0.6, 0.8), False), ((0.7, 0.6, 0.79), True)])
def test_judges_disagree_where_their_intervals_do_not_meet(run_folder: Make, second: tuple, disagree: bool):
    found = lines(run_folder(measured=[row("UA", 0.9, 0.8, 1.0, "target"), row("UA", *second, "target", judge="second")]))
    assert [line.disagree for line in found.values()] == [disagree]


def test_rows_that_needed_no_judge_stand_beside_the_main_judges(run_folder: Make):
    measured = [row("null_drift", 0.1, 0.1, 0.1, "null", judge="none"), row("UA", 0.9, 0.8, 1.0, "target", judge="clip")]
    found = lines(run_folder(measured=measured))
    assert [(k.metric, line.run.value) for k, line in found.items() if line.run] == [("UA", 0.9), ("null_drift", 0.1)]


def test_numbers_of_images_that_differ_are_both_shown(run_folder: Make):
    found = lines(run_folder(measured=[row("UA", 0.9, 0.8, 1.0, "target", n=1200), row("UA", 0.1, 0.0, 0.2, "target", "base", n=600)]))
    assert [line.images for line in found.values()] == ["600 / 1\u202f200"]


def test_groups_are_concepts_within_models_in_the_order_given(run_folder: Make):
    def of(name: str, target: str, model: str) -> Path:
        card = {"id": name, "concept": {"target": target, "kind": "style"}, "model": {"name": model}}
        return run_folder(name, card=card, evaluated=False, steps=0)

    given = [of("a", "neon", "x"), of("b", "dots", "x"), of("c", "neon", "x"), of("d", "neon", "y")]
    found = group_runs([read_view(f) for f in given])
    assert [(g.title, [c.view.card.id for c in g.columns]) for g in found] == [
        ("neon in x", ["a", "c"]),
        ("dots in x", ["b"]),
        ("neon in y", ["d"]),
    ]


@pytest.mark.parametrize(
    ("cards", "labels"),
    [
        ([("esd", 0), ("uce", 0)], ["esd", "uce"]),
        ([("esd", 0), ("esd", 1), ("uce", 0)], ["esd, seed 0", "esd, seed 1", "uce"]),
        ([("esd", 0), ("esd", 0)], ["esd, r0", "esd, r1"]),
        ([("esd", 0), ("esd", 0), ("esd", 1)], ["esd, r0", "esd, r1", "esd, seed 1"]),
    ],
)
def test_labels_are_as_short_as_they_may_be(run_folder: Make, cards: list[tuple[str, int]], labels: list[str]):
    runs = [
        read_view(run_folder(f"r{i}", card={"id": f"r{i}", "method": method, "seed": seed}, evaluated=False, steps=0))
        for i, (method, seed) in enumerate(cards)
    ]
    assert [c.label for g in group_runs(runs) for c in g.columns] == labels


@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        ([(0, "clip"), (0, "vit")], ["esd, judge clip", "esd, judge vit"]),
        ([(0, "clip"), (1, "vit")], ["esd, seed 0", "esd, seed 1"]),
        ([(0, "clip"), (0, "vit"), (1, "vit")], ["esd, judge clip", "esd, seed 0, judge vit", "esd, seed 1"]),
        ([(0, "clip"), (0, "clip")], ["esd, r0", "esd, r1"]),
    ],
)
def test_runs_of_one_method_differ_by_seed_and_judge(run_folder: Make, runs: list[tuple[int, str]], labels: list[str]):
    views = []
    for i, (seed, judge) in enumerate(runs):
        folder = run_folder(f"r{i}", card={"id": f"r{i}", "method": "esd", "seed": seed}, steps=0)
        about = folder / "evaluation" / "evaluation.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"judge": judge}))
        views.append(read_view(folder))
    assert [c.label for g in group_runs(views) for c in g.columns] == labels
