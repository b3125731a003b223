"""What weights still know, on the page: only what was measured, every text as text, and pictures of the run alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from report.folders import make_run
from report.markup import Markup

from expunge.errors import ExpungeError
from expunge.reports.charts.retention import Tile, retention
from expunge.reports.pages.information import section
from expunge.reports.pages.information import write as write_known
from expunge.reports.pages.run import write
from expunge.reports.run_folder import read

Make = Callable[..., Path]
HOSTILE = "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


def measured(run: Path, name: str = "neon", sibling: str = "outline", maps: bool = True) -> Path:
    """Writes `information/` into a run's folder, as `expunge meter` leaves it."""
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
        f"{who}{part}": f"pictures/{who}{part}.png" for who in ("base", "unlearned") for part in ("", "-total", "-unique", "-redundant")
    }
    for file in files.values():
        Image.new("RGB", (8, 8), "purple").save(folder / file)
    sums = {"total": 30.5, "unique": 20.25, "redundant": 10.25}
    told = {"given": f"a ring in {name} style", "other": f"a ring in {sibling} style", "both": "", "files": files}
    about = {"concepts": concepts, "meter": {"pictures": 6, "form": "expected"}, "log_snr": [-5.36, 7.07], "seconds": 61.0}
    about["maps"] = [told | {"nats": {"base": sums, "unlearned": sums}}] if maps else []
    (folder / "information.json").write_text(json.dumps(about))
    return run


def test_a_report_has_the_section_where_it_was_measured(run_folder: Make, tmp_path: Path):
    page = Markup.of(write([measured(run_folder())], tmp_path / "report.html"))
    assert (page.unclosed, page.dangers) == ([], [])
    sections = page.values("section", "id")
    assert [a.removeprefix("#") for a in page.values("a", "href")] == sections == [
        "verdict", "pictures", "metrics", "known", "training", "settings", "glossary"
    ]  # fmt: skip
    for text in (
        "Its siblings",
        "−16",
        "−0.5",
        "0.875",
        "neon, alone",
        "split against “a ring in outline style”",
        "20.2 nats",
        "−5.36 to 7.07",
    ):
        assert text in page.text, text
    assert sum(alt.endswith(("before", "after")) or ": a ring in neon" in alt for alt in page.values("img", "alt")) >= 8


def test_without_a_measurement_there_is_no_section(run_folder: Make, tmp_path: Path):
    run = run_folder()
    assert section(read(run)) is None
    assert "still know" not in write([run], tmp_path / "report.html").read_text()
    with pytest.raises(ExpungeError, match="expunge meter"):
        write_known(run)


def test_a_page_of_its_own(run_folder: Make):
    run = measured(run_folder())
    out = write_known(run)
    page = Markup.of(out)
    assert out == run / "information" / "index.html"
    assert (page.unclosed, page.dangers) == ([], [])
    assert {t: page.tags.count(t) for t in ("h1", "table")} == {"h1": 1, "table": 2}
    assert out.read_bytes() == write_known(run).read_bytes()


def test_several_runs_have_a_section_each(run_folder: Make, tmp_path: Path):
    runs = [measured(run_folder("a", card={"id": "a"})), run_folder("b", card={"id": "b", "method": "esd"})]
    runs.append(measured(run_folder("c", card={"id": "c", "method": "uce"}), maps=False))
    page = Markup.of(write(runs, tmp_path / "report.html"))
    assert page.text.count("ratio for each, with half its interval") == 2
    assert page.text.count("Where in the picture it lies") == 1
    assert "uce on neon" in page.text


def test_every_text_is_escaped(run_folder: Make, tmp_path: Path):
    run = measured(run_folder(card={"id": HOSTILE, "method": HOSTILE}), name=HOSTILE, sibling=f"b{HOSTILE}")
    for out in (write([run], tmp_path / "report.html"), write_known(run)):
        page = Markup.of(out)
        assert page.dangers == []
        assert page.unclosed == []
        assert any(HOSTILE in text for text in page.texts)


def test_a_broken_file_is_an_error_and_a_sparse_one_is_not(run_folder: Make):
    run = measured(run_folder())
    (run / "information" / "information.json").write_text('{"concepts": 3, "maps": [1, {}], "log_snr": ["x"], "meter": null}')
    found = section(read(run))
    assert found is not None
    assert (found.tiles, found.each, len(found.looks)) == ((), (), 1)
    (run / "information" / "rows.jsonl").write_text('{"run": "r1", "met')
    with pytest.raises(ExpungeError, match=r"rows\.jsonl is not"):
        section(read(run))


def test_pictures_outside_the_run_are_not_taken(run_folder: Make, tmp_path: Path):
    run = measured(run_folder())
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    file = run / "information" / "information.json"
    about = json.loads(file.read_text())
    about["maps"][0]["files"] |= {"base": "../../../secret.png", "base-total": str(tmp_path / "secret.png"), "base-unique": 3}
    file.write_text(json.dumps(about))
    found = section(read(run))
    assert found is not None
    assert [m.uri is None for m in found.looks[0].before] == [True, True, True, False]


def test_the_map_colours_by_sign_and_frames_what_was_removed():
    tiles = [Tile("lines", "neon", True, (-0.5, -0.75, -0.25)), Tile("lines", "outline", False, (1.5, 1.4, 1.6))]
    tiles += [Tile("", "a name that is far too long", False, None), *(Tile("many", f"m{i}", False, (0.25, 0.2, 0.3)) for i in range(5))]
    drawn = str(retention("style", tiles))
    assert drawn.count("var(--run1)") == 1  # below 0: one
    assert drawn.count("var(--run0)") == 6  # the rest that have a number
    for text in ("−0.50 ±0.25", "1.50 ±0.10", "a name that i…", "many", "–"):
        assert f">{text}<" in drawn
    assert drawn.count("opacity: 0.62") == 1  # nothing is fuller than full
    assert "How much of each style is kept" in drawn


def test_half_a_measurement_is_shown_as_far_as_it_goes(tmp_path: Path):
    """A run of several concepts has lines for each; without maps or ratios the rest stands."""
    run = measured(make_run(tmp_path / "r", card={"id": "r1"}), maps=False)
    file = run / "information" / "rows.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [x for x in lines if x["metric"] != "information_ratio"] + [x | {"concept": "ring"} for x in lines if x["probe"] == "target"]
    file.write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    found = section(read(run))
    assert found is not None
    assert [(p.target, [x.title for x in p.lines]) for p in found.parts] == [
        ("neon", ["The concept", "Its siblings"]),
        ("ring", ["The concept"]),
    ]
    assert [x.ratio is None for p in found.parts for x in p.lines] == [True, True, False]
    assert "–" in str(found.tiles[0][1])
