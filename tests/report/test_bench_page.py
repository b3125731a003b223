"""The page of a benchmark."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from report.markup import Markup

from expunge.bench.summary import Measured, markdown, standings
from expunge.evaluation.results import Row
from expunge.reports.charts.tradeoff import Bar, Spot, cost_chart, is_far_apart, tradeoff_chart
from expunge.reports.pages.bench import render_bench_page, write_bench_page


@pytest.fixture
def found(run_folder: Callable[..., Path]) -> list[Measured]:
    """Two methods and the retrained model, each on one concept."""
    units = []
    for i, (label, method) in enumerate((("First <b>", "mim-mu"), ("Second", "uce"), ("Retrained", "retrain"))):
        folder = run_folder(f"r{i}", card={"id": f"r{i}", "method": method, "date": f"2026-11-{20 + i}"})
        lines = (folder / "evaluation" / "rows.jsonl").read_text().splitlines()
        rows = tuple(Row(**json.loads(line)) for line in lines)
        costs = {"seconds": 70.0 + i, "forwards": 2240.0, "backwards": 12.0 * i, "memory_bytes": 2.0**28}
        units.append(Measured(label, method, "neon", 0, folder, rows, costs))
    return units


def test_the_page_contains_everything_and_loads_nothing(found: list[Measured], tmp_path: Path):
    out = write_bench_page("canvas", found, standings(found), tmp_path / "page.html")
    page = Markup.of(out)
    assert (page.dangers, page.unclosed) == ([], [])
    assert [a.removeprefix("#") for a in page.values("a", "href")] == page.values("section", "id")
    for text in ("First <b>", "Second", "Retrained", "base model", "UA_syn", "UA after relearn", "256\u202fMiB", "1 min 10 s"):
        assert text in page.text, text
    assert "2026-11-20 to 2026-11-22 · expunge 0.1.0 · torch 2.13.0" in page.text
    assert sum(v.startswith("data:image/") for v in page.values("img", "src")) > 0
    assert page.values("figure", "class") == ["tradeoff", *["drawing"] * 4]


def test_the_same_input_gives_the_same_bytes(found: list[Measured]):
    assert render_bench_page("canvas", found, standings(found)) == render_bench_page("canvas", found, standings(found))


def test_the_table_shows_value_interval_and_share_of_base(found: list[Measured]):
    """NRA: 157 of 180 is 87.2 %, before 175 of 180; 157 / 175 is 89.7 %."""
    text = Markup.of(render_bench_page("canvas", found[:1], standings(found[:1]))).text
    assert "87.2\u202f% 81.6 to 91.3\u202f%" in text
    assert "89.7\u202f% of base" in text


def test_without_judged_images_there_is_no_tradeoff(found: list[Measured]):
    bare = [Measured(m.label, m.method, m.concept, m.seed, m.folder, tuple(r for r in m.rows if r.judge == "none"), m.costs) for m in found]
    assert "tradeoff" not in Markup.of(render_bench_page("canvas", bare, standings(bare))).values("figure", "class")


def test_images_outside_a_run_are_not_embedded(found: list[Measured], tmp_path: Path):
    def embedded() -> int:
        return len(Markup.of(render_bench_page("canvas", found, standings(found))).values("img", "src"))

    before = embedded()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    file = found[0].folder / "evaluation" / "pictures.json"
    listed = json.loads(file.read_text())
    file.write_text(json.dumps([entry | {"unlearned": "../../../secret.png"} for entry in listed]))
    assert embedded() == before - len(listed)


def spot(label: str, forgetting: float, retention: float, colour: int | None = 0) -> Spot:
    return Spot(label, colour, (forgetting, forgetting - 0.01, forgetting + 0.01), (retention, retention - 0.01, retention + 0.01))


def test_the_tradeoff_joins_the_front_and_names_its_references():
    spots = [spot("a", 0.9, 0.9), spot("b", 1.0, 0.8, 1), spot("c", 0.5, 0.5, 2), spot("base model", 0.0, 1.0, None)]
    chart = str(tradeoff_chart(spots))
    assert ">base model<" in chart
    assert "stroke-dasharray" in chart
    assert "stroke-dasharray" not in str(tradeoff_chart([spot("a", 0.9, 0.9), spot("c", 0.5, 0.5, 2)]))
    assert tradeoff_chart([]) is None


def test_bars_are_shown_even_if_all_cost_nothing():
    chart = str(cost_chart("Backward passes", [Bar("a", 0, 0.0, "0"), Bar("b", 1, 0.0, "0")]))
    assert ">Backward passes<" in chart
    assert ">a<" in chart


def test_bars_are_to_scale_or_their_axis_is_named_logarithmic():
    """Retraining takes an hour and methods take minutes: to scale, the methods' bars would be too short to compare."""
    assert [is_far_apart(v) for v in ([97.0, 350.0, 6189.0], [97.0, 290.0], [0.0, 0.1], [], [0.0])] == [True, False, False, False, False]
    of = [Bar("a", 0, 97.0, "97 s"), Bar("b", 1, 350.0, "350 s")]
    near, far = (str(cost_chart("Time", [*of, Bar("c", 2, value, "long")])) for value in (400.0, 6189.0))
    assert ("(logarithmic axis)" in near, "(logarithmic axis)" in far) == (False, True)


def test_a_metric_that_the_judge_cannot_judge_is_marked_and_ranks_nobody(found: list[Measured]):
    def blind(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(replace(r, value=0.0, ci_low=0.0, ci_high=0.02) if r.metric == "IRA" else r for r in rows)

    lines = standings([replace(m, rows=blind(m.rows)) for m in found])
    assert {line.unfit for line in lines} == {frozenset({"IRA"})}
    assert lines[-1].retention == min(p.of_base for name, p in lines[-1].metrics.items() if p.of_base is not None and name != "IRA")
    assert "judge unfit" in Markup.of(render_bench_page("canvas", found[:1], lines)).text
    assert "judge unfit" in markdown(lines)
    assert "judge unfit" not in markdown(standings(found))
