"""The page as a whole: harmless, self-contained, complete, tolerant, and written whole or not at all."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from report.folders import make_run, prompts, row, rows
from report.markup import Markup

from expunge.errors import ExpungeError
from expunge.reports.pages.questions import questions
from expunge.reports.pages.run import write_report
from expunge.reports.run_view import read_view

Make = Callable[..., Path]
HOSTILE = "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


@pytest.mark.parametrize(
    "html",
    ["<script>1</script>", "<img src=x>", "<p onclick='x'></p>", "<img src='https://a.example/b.png'>", "<style>@import 'x'</style>"],
)
def test_the_reader_sees_dangers(html: str):
    assert len(Markup.of(html).dangers) == 1


def test_every_text_is_escaped(run_folder: Make, tmp_path: Path):
    card = {
        "id": HOSTILE, "status": HOSTILE, "error": HOSTILE, "method": HOSTILE, "device": HOSTILE, "dtype": HOSTILE, "scope": HOSTILE,
        "config": {HOSTILE: HOSTILE}, "training": {HOSTILE: [HOSTILE]}, "versions": {HOSTILE: HOSTILE},
        "concept": {"target": HOSTILE, "kind": HOSTILE, "synonyms": [HOSTILE], "anchor": HOSTILE},
        "model": {"name": HOSTILE, "fingerprint": HOSTILE, "family": HOSTILE},
    }  # fmt: skip
    measured = [row(HOSTILE, 0.5, 0.4, 0.6, HOSTILE, HOSTILE, attack=HOSTILE), row("UA", 0.5, 0.4, 0.6, "target", attack="<b>x")]
    measured += [row("UA", 0.9, 0.8, 1.0, "target"), row("<i>&$x$", 0.5, 0.4, 0.6, "target")]
    pictures = [("target", HOSTILE, HOSTILE, HOSTILE), (HOSTILE, HOSTILE, None, HOSTILE)]
    for name in ("one", "two"):
        run = run_folder(name, card=card, measured=measured, pictures=pictures)
        (run / "config.toml").write_text(HOSTILE)
        (run / "log.jsonl").write_text("".join(json.dumps({"step": i, "loss": i, "terms": {"<b>a": 1, HOSTILE: i}}) + "\n" for i in (1, 2)))
        about = {"judge": HOSTILE, "sampler": {HOSTILE: HOSTILE}, "notes": [HOSTILE]}
        (run / "evaluation" / "evaluation.json").write_text(json.dumps(about))
    runs = [tmp_path / "runs" / "one", tmp_path / "runs" / "two"]

    for given in (runs[:1], runs):
        page = Markup.of(write_report(given, tmp_path / "report.html"))
        assert page.dangers == []
        assert page.unclosed == []
        assert sum(text.count(HOSTILE) for text in page.texts) > 20
        assert any("<i>&$x$" in text for text in page.texts), "a metric's name reaches the chart as it is"


def test_nothing_is_loaded(run_folder: Make, tmp_path: Path):
    out = write_report([run_folder("a"), run_folder("b", card={"id": "b"})], tmp_path / "report.html")
    page, text = Markup.of(out), out.read_text(encoding="utf-8")
    assert page.dangers == []
    assert "http://" not in text
    assert "https://" not in text
    assert page.values("meta", "content")[-1].startswith("default-src 'none'; img-src data:")


def test_markup_is_sound(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([run_folder()], tmp_path / "report.html"))
    assert page.unclosed == []
    headings = [t for t in page.tags if t in ("h1", "h2", "h3")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert page.values("section", "id") == ["gone", "changed", "back"]
    assert page.values("details", "id") == ["sentences", "images", "numbers", "training", "settings", "glossary"]
    assert len(page.values("img", "alt")) == len(page.values("img", "src"))
    assert all(page.values("img", "alt"))


def test_each_row_is_shown_once_and_unrounded(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([run_folder()], tmp_path / "report.html"))
    assert Counter(map(float, page.values("data", "value"))) == Counter(r["value"] for r in rows())
    assert "98.9\u202f%" in page.text
    assert "95.9 to 99.7\u202f%" in page.text  # 0.9889 - 0.03 and 0.9889 + 0.008


def test_several_runs_share_one_base_line(run_folder: Make, tmp_path: Path):
    """Two runs of a concept whose base rows agree, and one of another concept: base rows stand once for each concept."""
    runs = [
        run_folder("a", card={"id": "a"}, measured=rows("a")),
        run_folder("b", card={"id": "b", "method": "esd"}, measured=rows("b", 0.7)),
    ]
    ring = {"id": "c", "concept": {"target": "ring", "kind": "object"}}
    of_ring = [row("UA", 0.625, 0.5, 0.75, "target", "c"), row("UA", 0.125, 0.1, 0.2, "target", "base")]
    runs.append(run_folder("c", card=ring, measured=of_ring))
    page = Markup.of(write_report(runs, tmp_path / "report.html"))
    # A cell of this table prints the second judge's number as text, so only the main judge's values are machine-readable.
    main = [r for r in [*rows("a"), *(r for r in rows("b", 0.7) if r["run"] != "base")] if r["judge"] != "second"]
    assert Counter(map(float, page.values("data", "value"))) == Counter([r["value"] for r in main] + [0.625, 0.125])
    assert page.text.startswith("Removing “neon” and “ring” from canvas with mim-mu and esd")


def test_base_lines_that_differ_all_stand(run_folder: Make, tmp_path: Path):
    def of(name: str, seed: int, base: float) -> Path:
        measured = [row("UA", 0.9, 0.8, 1.0, "target", name), row("UA", base, 0.0, 0.3, "target", "base")]
        return run_folder(name, card={"id": name, "seed": seed}, measured=measured)

    runs = [of("a", 0, 0.1), of("b", 1, 0.2)]
    page = Markup.of(write_report(runs, tmp_path / "report.html"))
    assert sorted(map(float, page.values("data", "value"))) == [0.1, 0.2, 0.9, 0.9]
    assert "base model, evaluated with mim-mu, seed 0" in page.text
    assert "base model, evaluated with mim-mu, seed 1" in page.text


def test_runs_that_were_sampled_differently_say_so(run_folder: Make, tmp_path: Path):
    runs = [run_folder("a", card={"id": "a"}), run_folder("b", card={"id": "b"})]
    assert "different sampler settings" not in Markup.of(write_report(runs, tmp_path / "report.html")).text
    (runs[1] / "evaluation" / "evaluation.json").write_text('{"judge": "canvas main judge", "sampler": {"steps": 50}}')
    assert "different sampler settings" in Markup.of(write_report(runs, tmp_path / "report.html")).text


def test_a_run_without_evaluation_says_how_to_make_one(run_folder: Make, tmp_path: Path):
    run = run_folder(evaluated=False)
    page = Markup.of(write_report([run], tmp_path / "report.html"))
    assert f"expunge eval {run}" in page.text
    assert "article" not in page.tags
    both = Markup.of(write_report([run, run_folder("other", card={"id": "other"})], tmp_path / "report.html"))
    assert f"expunge eval {run}" in both.text


@pytest.mark.parametrize(
    "absent", ["config.toml", "log.jsonl", "evaluation/pictures.json", "evaluation/evaluation.json", "evaluation/pictures"]
)
def test_a_missing_part_costs_only_itself(run_folder: Make, tmp_path: Path, absent: str):
    run = run_folder()
    whole = Markup.of(write_report([run], tmp_path / "whole.html"))
    gone = run / absent
    for file in sorted(gone.iterdir()) if gone.is_dir() else [gone]:
        file.unlink()
    page = Markup.of(write_report([run], tmp_path / "report.html"))
    assert Counter(page.values("data", "value")) == Counter(whole.values("data", "value"))
    assert len(page.text) < len(whole.text) or page.text.count("no image") > 0


def test_an_empty_card_and_empty_rows_make_a_page(run_folder: Make, tmp_path: Path):
    run = run_folder(measured=[], pictures=[])
    (run / "card.json").write_text("{}")
    page = Markup.of(write_report([run], tmp_path / "report.html"))
    assert page.text.startswith("Removing an unnamed concept from an unnamed model with an unnamed method")
    assert "Removed: not measured. Damage: not measured. Recovery: not measured" in page.text
    assert "–" in page.text


def test_an_unfinished_run_says_so(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([run_folder(card={"status": "running"}, evaluated=False)], tmp_path / "report.html"))
    assert "(running)" in page.text


def test_a_page_without_pictures_has_none(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([run_folder()], tmp_path / "report.html", pictures=False))
    assert (page.tags.count("img"), page.tags.count("input"), page.unclosed) == (0, 0, [])
    assert "data:image" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("kind", "blur", "is_blurred"), [("style", None, False), ("unsafe", None, True), ("unsafe", False, False), ("style", True, True)]
)
def test_images_of_unsafe_concepts_are_blurred_unless_the_user_decides(
    run_folder: Make, tmp_path: Path, kind: str, blur: bool | None, is_blurred: bool
):
    run = run_folder(card={"concept": {"target": "neon", "kind": kind}})
    other = run_folder("other", card={"id": "other"})
    for runs in ([run], [run, other]):
        page = Markup.of(write_report(runs, tmp_path / "report.html", blur=blur))
        assert [name for tag, name, _ in page.attributes if tag == "input" and name == "checked"] == ["checked"] * is_blurred


def test_the_head_has_the_digests_of_what_was_made_and_of_what_judged(run_folder: Make, tmp_path: Path):
    run = run_folder()
    (run / "delta.safetensors").write_bytes(b"weights")
    about = json.loads((run / "evaluation" / "evaluation.json").read_text())
    rates = {"concept": "neon", "false_negative": {"value": 0.02}, "false_positive": {"value": 0.0}}
    second = {"name": "second", "weights": "c3d4", "error_rates": [rates, rates | {"concept": "ring", "false_negative": {"value": 0.05}}]}
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(about | {"judges": [{"name": "main", "weights": "a1b2"}, second]}))
    text = Markup.of(write_report([run], tmp_path / "report.html")).text.split("Is it gone?")[0]
    assert hashlib.sha256(b"weights").hexdigest() in text
    assert "sha256:9f2c41d07a" in text
    assert "a1b2" in text
    assert "overlooks the concept in 2.0\u202f% to 5.0\u202f% and sees it falsely in 0.0\u202f%" in text
    assert "misses 2.2\u202f% to 3.3\u202f%" in text  # UA of the base model 0.0222, and 1 - 0.9667 of IRA and CRA


def test_every_cell_of_a_table_has_the_heading_of_its_column(run_folder: Make, tmp_path: Path):
    page = Markup.of(write_report([run_folder()], tmp_path / "report.html"))
    labels = page.values("td", "data-label")
    assert len(labels) == page.tags.count("td")
    assert set(labels) == {"mim-mu", "Base model", "n", "Difference", "Second judge", "Second judge: base model"}


def test_a_chart_has_the_largest_fall_first(run_folder: Make):
    chart = questions(read_view(run_folder()))[1].chart
    assert chart is not None
    assert [(line.note, line.text) for line in chart.groups[0].lines] == [
        ("NRA", "87.2\u202f%"), ("IRA", "93.9\u202f%"), ("ORA", "96.1\u202f%"), ("CRA", "97.2\u202f%")
    ]  # fmt: skip
    assert [(dot.who, dot.value) for dot in chart.groups[0].lines[0].dots] == [("base", 0.9722), ("run", 0.8722)]


def test_the_share_of_images_that_show_nothing_is_beside_the_concepts(run_folder: Make):
    folder = run_folder()
    file = folder / "evaluation" / "rows.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines += [row("OOD", 0.25, 0.1, 0.4, "target"), row("OOD", 0.01, 0.0, 0.05, "target", "base")]
    file.write_text("\n".join(map(json.dumps, lines)))
    chart = questions(read_view(folder))[0].chart
    assert chart is not None
    named, shown = chart.groups
    assert [line.note for line in named.lines] == ["UA", "UA_syn"]
    assert [(dot.who, dot.value) for dot in shown.lines[0].dots] == [("base", 0.01), ("run", 0.25)]


def test_the_same_runs_give_the_same_bytes(run_folder: Make, tmp_path: Path):
    run = run_folder()
    first = write_report([run], tmp_path / "1.html").read_bytes()
    assert write_report([run], tmp_path / "new" / "2.html").read_bytes() == first


def test_the_page_has_the_date_and_the_versions_of_its_runs(run_folder: Make, tmp_path: Path):
    runs = [run_folder("a", card={"id": "a"}), run_folder("b", card={"id": "b", "date": "2026-12-01", "versions": {"expunge": "0.2.0"}})]
    single = Markup.of(write_report(runs[:1], tmp_path / "report.html")).text
    assert "2026-11-28" in single
    assert "expunge 0.1.0, torch 2.13.0" in single
    assert "2026-11-28 to 2026-12-01 · expunge 0.1.0 and 0.2.0 · torch" in Markup.of(write_report(runs, tmp_path / "report.html")).text
    old = run_folder("c", card={"date": None, "versions": {}})
    assert "origin" not in Markup.of(write_report([old], tmp_path / "report.html")).values("p", "class")


def test_a_page_is_written_whole_or_not_at_all(run_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, folder = run_folder(steps=3), tmp_path / "out"
    folder.mkdir()
    (folder / "report.html").write_bytes(b"before")
    whole = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        whole(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExpungeError):
        write_report([run], folder / "report.html")
    assert [(f.name, f.read_bytes()) for f in folder.iterdir()] == [("report.html", b"before")]


def test_bad_requests_are_refused(run_folder: Make, tmp_path: Path):
    def refused(runs: list[Path], out: Path) -> tuple[str, object, str]:
        with pytest.raises(ExpungeError) as caught:
            write_report(runs, out)
        return caught.value.rule, caught.value.value, caught.value.hint

    assert refused([], tmp_path / "report.html")[:2] == ("no-run", [])
    assert refused([run_folder()], tmp_path) == ("report-is-folder", str(tmp_path), f"Try {tmp_path / 'report.html'}.")
    assert refused([tmp_path / "nowhere"], tmp_path / "report.html")[:2] == ("no-run", str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ExpungeError):
        write_report([tmp_path / "runs" / "r1"], tmp_path / "file" / "report.html")


def test_images_outside_the_run_are_not_embedded(run_folder: Make, tmp_path: Path):
    run = run_folder()
    file = run / "evaluation" / "pictures.json"
    listed = json.loads(file.read_text())
    (tmp_path / "secret.png").write_bytes((run / "evaluation" / listed[0]["base"]).read_bytes())

    def embedded() -> int:
        return len(Markup.of(write_report([run], tmp_path / "report.html")).values("img", "src"))

    assert embedded() == 2 * len(listed) + 2  # a pair at the top
    file.write_text(json.dumps([entry | {"base": "../../../secret.png"} for entry in listed]))
    assert embedded() == len(listed) + 1


def test_an_audit_outside_the_run_is_not_read(run_folder: Make, tmp_path: Path):
    run = run_folder()
    (run / "audit").mkdir()
    (tmp_path / "audit.json").write_text("{}")
    (run / "audit" / "audit.json").symlink_to(tmp_path / "audit.json")
    with pytest.raises(ExpungeError) as caught:
        write_report([run], tmp_path / "report.html")
    assert (caught.value.rule, caught.value.value) == ("path-escape", "audit/audit.json")


def test_a_run_may_be_one_of_many(tmp_path: Path):
    """More runs than colours: shapes and colours repeat, names do not."""
    runs = [
        make_run(tmp_path / str(i), card={"id": f"run{i}"}, measured=rows(f"run{i}"), pictures=prompts()[:2], steps=2) for i in range(8)
    ]
    page = Markup.of(write_report(runs, tmp_path / "report.html"))
    assert all(f"mim-mu, run{i}" in page.text for i in range(8))
