"""The page of a benchmark."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report.markup import Markup

from expunge.bench.summary import Measured, standings
from expunge.evaluation.results import Row
from expunge.reports.charts.tradeoff import Bar, Spot, _longest, bars, plane
from expunge.reports.pages.leaderboard import render, write


@pytest.fixture
def found(run_folder: Callable[..., Path]) -> list[Measured]:
    """Two methods and the retrained model, each on one concept."""
    units = []
    for i, (label, method) in enumerate((("First <b>", "mim-mu"), ("Second", "uce"), ("Retrained", "retrain"))):
        folder = run_folder(f"r{i}", card={"id": f"r{i}", "method": method})
        lines = (folder / "evaluation" / "rows.jsonl").read_text().splitlines()
        rows = tuple(Row(**json.loads(line)) for line in lines)
        costs = {"seconds": 70.0 + i, "forwards": 2240.0, "backwards": 12.0 * i, "memory_bytes": 2.0**28}
        units.append(Measured(label, method, "neon", 0, folder, rows, costs))
    return units


def test_the_page_holds_everything_and_reaches_for_nothing(found: list[Measured], tmp_path: Path):
    out = write("canvas", found, standings(found), tmp_path / "page.html")
    page = Markup.of(out)
    assert page.dangers == []
    assert page.unclosed == []
    for text in (
        "First <b>",
        "Second",
        "Retrained",
        "untouched",
        "UA_syn",
        "UA after relearn",
        "Peak memory above the model",
        "256\u202fMiB",
    ):
        assert text in page.text
    assert sum(v.startswith("data:image/") for v in page.values("img", "src")) > 0
    assert "Forgetting against retention" in page.texts


def test_the_same_input_gives_the_same_bytes(found: list[Measured]):
    assert render("canvas", found, standings(found)) == render("canvas", found, standings(found))


def test_the_table_shows_value_interval_and_share_of_base(found: list[Measured]):
    """NRA: 157 of 180 is 87.2 %, before 175 of 180; 157 / 175 is 89.7 %."""
    text = Markup.of(render("canvas", found[:1], standings(found[:1]))).text
    assert "87.2\u202f% 81.6 to 91.3\u202f%" in text
    assert "89.7\u202f% of base" in text


def test_nothing_judged_leaves_no_plane(found: list[Measured]):
    bare = [Measured(m.label, m.method, m.concept, m.seed, m.folder, tuple(r for r in m.rows if r.judge == "none"), m.costs) for m in found]
    assert "Nothing judged the pictures." in render("canvas", bare, standings(bare))


def spot(label: str, forgetting: float, retention: float, colour: int | None = 0) -> Spot:
    return Spot(label, colour, (forgetting, forgetting - 0.01, forgetting + 0.01), (retention, retention - 0.01, retention + 0.01))


def test_the_plane_joins_the_front_and_names_its_landmarks():
    chart = str(plane([spot("a", 0.9, 0.9), spot("b", 1.0, 0.8, 1), spot("c", 0.5, 0.5, 2), spot("untouched", 0.0, 1.0, None)]))
    assert ">untouched<" in chart
    assert "stroke-dasharray" in chart
    assert "stroke-dasharray" not in str(plane([spot("a", 0.9, 0.9), spot("c", 0.5, 0.5, 2)]))
    assert plane([]) is None


def test_bars_stand_even_where_all_cost_nothing():
    chart = str(bars("Backward passes", [Bar("a", 0, 0.0, "0"), Bar("b", 1, 0.0, "0")]))
    assert ">Backward passes<" in chart
    assert ">a<" in chart


def test_a_bar_that_is_far_longer_than_all_others_is_cut():
    """Retraining takes an hour where methods take a minute or two, whose bars would all be a hair."""
    assert _longest([97.0, 350.0, 6189.0]) == 1.25 * 350
    assert _longest([97.0, 290.0]) == 290
    assert _longest([0.0, 0.1]) == 0.1
    assert (_longest([]), _longest([0.0])) == (1.0, 1.0)
    of = [Bar("a", 0, 97.0, "97 s"), Bar("b", 1, 350.0, "350 s")]
    whole, cut = (str(bars("Time", [*of, Bar("c", 2, value, "long")])).count("<path") for value in (400.0, 6189.0))
    assert cut == whole + 1
