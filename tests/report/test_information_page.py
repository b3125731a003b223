"""The information in the weights, on the page: only what was measured, every text as text, and images of the run alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from report.folders import make_run
from report.markup import Markup

from expunge.errors import ExpungeError
from expunge.reports.charts.retention import Tile, retention_chart
from expunge.reports.pages.information import information_section, write_information_page
from expunge.reports.pages.run import write_report
from expunge.runs.run import Run

Make = Callable[..., Path]
HOSTILE = "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def measured(run: Path, name: str = "neon", sibling: str = "outline", maps: bool = True) -> Path:
    """Writes `information/` into a run's folder, as `expunge meter` does."""
    folder = run / "information"
    (folder / "pictures").mkdir(parents=True)

    def rows(probe: str, base: float, after: float, run_id: str = "r1") -> list[dict]:
        shared = {"concept": "neon", "seed": 0, "probe": probe, "n": 6, "judge": "none"}
        found = [("base", "none", "information", base), (run_id, "mim-mu", "information", after)]
        found += [(run_id, "mim-mu", "information_ratio", after / base)]
        return [shared | {"run": r, "method": m, "metric": k, "value": v, "ci_low": v - 0.25, "ci_high": v + 0.25} for r, m, k, v in found]

    entries = [*rows("target", 32.0, -16.0), *rows("siblings", 64.0, 56.0), *rows(f"style/{name}", 32.0, -16.0)]
    entries += [*rows(f"style/{name}/alone", 128.0, 96.0), *rows(f"style/{sibling}", 64.0, 56.0)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in entries))
    concepts = [
        {"name": name, "kind": "style", "family": "lines", "removed": True, "alone": False, "probe": f"style/{name}"},
        {"name": name, "kind": "style", "family": "lines", "removed": True, "alone": True, "probe": f"style/{name}/alone"},
        {"name": sibling, "kind": "style", "family": "lines", "removed": False, "alone": False, "probe": f"style/{sibling}"},
    ]
    files = {
        f"{model}{part}": f"pictures/{model}{part}.png"
        for model in ("base", "unlearned")
        for part in ("", "-total", "-unique", "-redundant")
    }
    for file in files.values():
        Image.new("RGB", (8, 8), "purple").save(folder / file)
    sums = {"total": 30.5, "unique": 20.25, "redundant": 10.25}
    entry = {"given": f"a ring in {name} style", "other": f"a ring in {sibling} style", "both": "", "files": files}
    about = {"concepts": concepts, "meter": {"pictures": 6, "form": "expected"}, "log_snr": [-5.36, 7.07], "seconds": 61.0}
    about["maps"] = [entry | {"nats": {"base": sums, "unlearned": sums}}] if maps else []
    (folder / "information.json").write_text(json.dumps(about))
    return run


def test_a_report_has_the_section_if_it_was_measured(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([measured(run_folder())], tmp_path / "report.html"))
    assert (page.unclosed, page.dangers) == ([], [])
    assert page.values("details", "id").count("information") == 1
    numbers = page.values("data", "value")
    assert {"-16.0", "-0.5", "0.875", "64.0"} <= set(numbers)
    for text in ("neon, alone", "“a ring in outline style”", "20.2 nats", "−5.36 to 7.07"):
        assert text in page.text, text


def test_the_section_holds_what_was_measured(run_folder: Make):
    found = information_section(Run(measured(run_folder())))
    assert found is not None
    (target,) = found.targets
    assert [(line.base and line.base.value, line.run and line.run.value) for line in target.lines] == [(32.0, -16.0), (64.0, 56.0)]
    assert [line.ratio and (line.ratio.value, line.ratio.n) for line in target.lines] == [(-0.5, 6), (0.875, 6)]
    assert [line.title for line in found.each] == ["neon", "neon, alone", "outline"]
    (pair,) = found.maps
    assert [m.nats for m in pair.before] == ["", "30.5 nats", "20.2 nats", "10.2 nats"]
    assert all(m.uri for m in (*pair.before, *pair.after))
    assert ("time", "1 min 1 s") in found.facts


def test_without_a_measurement_there_is_no_section(run_folder: Make, tmp_path: Path):
    run = run_folder()
    assert information_section(Run(run)) is None
    assert 'id="information"' not in write_report([run], tmp_path / "report.html").read_text()
    with pytest.raises(ExpungeError) as caught:
        write_information_page(run)
    assert (caught.value.rule, caught.value.value) == ("no-information", str(run))
    assert f"expunge meter {run}" in caught.value.hint


def test_a_page_of_its_own(run_folder: Make):
    run = measured(run_folder())
    out = write_information_page(run)
    page = Markup.of(out)
    assert out == run / "information" / "index.html"
    assert (page.unclosed, page.dangers) == ([], [])
    assert {t: page.tags.count(t) for t in ("h1", "table")} == {"h1": 1, "table": 2}
    assert "2026-11-28 · expunge 0.1.0 · torch 2.13.0" in page.text
    assert out.read_bytes() == write_information_page(run).read_bytes()


def test_several_runs_have_a_section_each(run_folder: Make, tmp_path: Path):
    runs = [measured(run_folder("a", card={"id": "a"})), run_folder("b", card={"id": "b", "method": "esd"})]
    runs.append(measured(run_folder("c", card={"id": "c", "method": "uce"}), maps=False))
    page = Markup.of(write_report(runs, tmp_path / "report.html"))
    assert page.text.count("How it was measured") == 2
    assert page.values("figure", "class").count("map-pair") == 1
    assert "uce on neon" in page.text


def test_every_text_is_escaped(run_folder: Make, tmp_path: Path):
    run = measured(run_folder(card={"id": HOSTILE, "method": HOSTILE}), name=HOSTILE, sibling=f"b{HOSTILE}")
    for out in (write_report([run], tmp_path / "report.html"), write_information_page(run)):
        page = Markup.of(out)
        assert (page.dangers, page.unclosed) == ([], [])
        assert any(HOSTILE in text for text in page.texts)


def test_a_broken_file_is_an_error_and_a_sparse_one_is_not(run_folder: Make):
    run = measured(run_folder())
    (run / "information" / "information.json").write_text('{"concepts": 3, "maps": [1, {}], "log_snr": ["x"], "meter": null}')
    found = information_section(Run(run))
    assert found is not None
    assert (found.charts, found.each, len(found.maps)) == ((), (), 1)
    rows = run / "information" / "rows.jsonl"
    rows.write_text('{"run": "r1", "met')
    with pytest.raises(ExpungeError) as caught:
        information_section(Run(run))
    assert (caught.value.rule, caught.value.value) == ("broken-file", str(rows))


def test_images_outside_the_run_are_not_taken(run_folder: Make, tmp_path: Path):
    run = measured(run_folder())
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    file = run / "information" / "information.json"
    about = json.loads(file.read_text())
    about["maps"][0]["files"] |= {"base": "../../../secret.png", "base-total": str(tmp_path / "secret.png"), "base-unique": 3}
    file.write_text(json.dumps(about))
    found = information_section(Run(run))
    assert found is not None
    assert [m.uri is None for m in found.maps[0].before] == [True, True, True, False]


@pytest.mark.parametrize("name", ["rows.jsonl", "information.json"])
def test_a_link_out_of_the_run_is_refused(run_folder: Make, tmp_path: Path, name: str):
    run = measured(run_folder())
    (run / "information" / name).rename(tmp_path / name)
    (run / "information" / name).symlink_to(tmp_path / name)
    with pytest.raises(ExpungeError) as caught:
        write_information_page(run)
    assert (caught.value.rule, caught.value.value) == ("path-escape", f"information/{name}")


def test_the_chart_colours_by_sign_and_frames_what_was_removed():
    tiles = [Tile("lines", "neon", True, (-0.5, -0.75, -0.25)), Tile("lines", "outline", False, (1.5, 1.4, 1.6))]
    tiles += [Tile("", "a name that is far too long", False, None), *(Tile("many", f"m{i}", False, (0.25, 0.2, 0.3)) for i in range(5))]
    chart = str(retention_chart("style", tiles))
    assert chart.count("var(--run1)") == 1  # below 0: one
    assert chart.count("var(--run0)") == 6  # the rest that have a number
    for text in ("−0.50 ±0.25", "1.50 ±0.10", "a name that i…", "many", "–"):
        assert f">{text}<" in chart
    assert chart.count("opacity: 0.62") == 1  # nothing is fuller than full


def test_half_a_measurement_is_shown_as_far_as_it_goes(tmp_path: Path):
    """A run of several concepts has lines for each; without maps or ratios the rest is shown."""
    run = measured(make_run(tmp_path / "r", card={"id": "r1"}), maps=False)
    file = run / "information" / "rows.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [x for x in lines if x["metric"] != "information_ratio"] + [x | {"concept": "ring"} for x in lines if x["probe"] == "target"]
    file.write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    found = information_section(Run(run))
    assert found is not None
    assert [(t.target, len(t.lines)) for t in found.targets] == [("neon", 2), ("ring", 1)]
    assert [line.ratio is None for t in found.targets for line in t.lines] == [True, True, False]
    assert ">–<" in str(found.charts[0][1])
