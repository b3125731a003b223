"""What a run's page shows of an audit: what was measured, escaped; and an audit that is read from its files is the same."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from audit.invented import CARD, audit, done, kept
from PIL import Image
from raising import raises_error
from report.conftest import run_folder as run_folder
from report.folders import make_run
from report.markup import Markup

from expunge.audits.cells import ExampleImage, HitCount
from expunge.audits.results import Audit, Failure
from expunge.audits.saved import read_audit
from expunge.audits.verdict import RULES, TITLES
from expunge.evaluation.statistics import wilson
from expunge.reports.charts.recovery import RecoveryLine, recovery_chart
from expunge.reports.format import listed
from expunge.reports.pages.highlights import highlights
from expunge.reports.pages.questions import questions
from expunge.reports.pages.run import render_report, write_audit_page
from expunge.reports.run_view import read_view
from expunge.reports.text.conclusions import answer_of, summarise
from expunge.reports.text.verdict import status_line

EVIL = "<script>alert(1)</script> & {{ 7 * 7 }}"


def pictured(folder: Path, name: str, prompt: str = "a ring in neon style", hit: bool = True) -> tuple[ExampleImage, ...]:
    (folder / "pictures").mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (8, 8), (200, 30, 60)).save(folder / "pictures" / name)
    return (ExampleImage(prompt, 0, name, "neon" if hit else "dots", hit),)


def page_of(made: Audit, run: Path) -> str:
    """The page of an audit whose run was not evaluated."""
    if not (run / "card.json").exists():
        make_run(run, card=CARD | {"concept": {"target": next(iter(made.chances)), "kind": "style"}}, evaluated=False)
    return write_audit_page(kept(made, run)).read_text(encoding="utf-8")


@pytest.fixture
def found(tmp_path: Path) -> Audit:
    """Four attacks, each with another end, beside a retrained control."""
    folder = tmp_path / "run" / "audit"
    shown = {0: pictured(folder, "a.png", hit=False), 2: pictured(folder, "b.png")}
    return audit(
        folder,
        *done("relearn, lr 0.001", [0, 4, 13], [15, 15, 15], [0, 0, 1], shown=shown, name="relearn", strengths=(0, 25, 100)),
        *done("relearn, lr 0.0001", [0, 2, 3], [15, 15, 15], [0, 0, 0], name="relearn", strengths=(0, 25, 100)),
        *done("few-shot", [0, 6, 14], [15, 16, 16], [0, 5, 15]),
        *done("quantise", [0, 0, 1], [15, 15, 12], [0, 0, 0], unit="bits removed"),
        *done("noise", [0, 3, 4], [15, 16, 16], [0, 0, 0]),
        *done("wording", [0, 0, 0], [15, 1, 0], [0, 0, 0]),
        failures=(Failure("p4d", "unlearned", "neon", "an attack needs words: there are none; give some"),),
        control=True,
    )


def said_of(paragraphs: list[str], label: str) -> str:
    """The first paragraph about an attack."""
    return next(text for text in paragraphs if label in text)


def test_what_judges_see_in_the_training_images_is_shown(tmp_path: Path):
    taught = HitCount(256, {"main": 0, "second": 3})
    text = Markup.of(page_of(audit(tmp_path, *done("relearn", [0, 4], [15, 15], taught=taught)), tmp_path / "a")).text
    assert "The attack trains on 256 images" in text
    assert "main in 0, second in 3" in text
    without = Markup.of(page_of(audit(tmp_path, *done("relearn", [0, 4], [15, 15])), tmp_path / "b")).text
    assert "The attack trains on" not in without


def test_the_page_contains_everything_and_loads_nothing(found: Audit, tmp_path: Path):
    text = page_of(found, found.folder.parent)
    page = Markup.of(text)
    assert (page.dangers, page.unclosed) == ([], [])
    for said in (
        "Does it come back?",
        "there are none",
        *(TITLES[s] for s in ("back", "learnt", "unclear", "failed", "holds", "blunt")),
    ):
        assert said in page.text, said
    assert {f"{13 / 16}", f"{14 / 16}", f"{1 / 16}", "0.25"} <= set(page.values("data", "value"))
    assert "81.2\u202f%" in page.text  # 13 of 16
    assert "57.0 to 93.4\u202f%" in page.text  # its Wilson interval
    assert page.values("svg", "class").count("chart") == 5 + 1  # one for each attack, and the loss


def test_the_page_is_the_same_from_the_files(found: Audit):
    """A page that is made later from the audit's files must not differ from the one that the audit made."""
    run = found.folder.parent
    made = page_of(found, found.folder.parent)
    read = read_audit(found.folder, CARD)
    assert read is not None
    assert (read.table, read.rows) == (found.table, found.rows)
    assert render_report([read_view(run)]) == made


def test_a_damaged_cell_is_an_error_and_a_missing_one_leaves_the_findings(found: Audit):
    page_of(found, found.folder.parent)
    view, cell = read_view(found.folder.parent), found.folder / "cells" / f"{found.done[0].result.id}.json"
    cell.write_text("{}")
    with raises_error("broken-audit", value=str(cell)):
        read_view(found.folder.parent)
    cell.unlink()
    less = read_view(found.folder.parent)
    assert (view.audits[0].audit is None, less.audits[0].audit) == (False, None)
    assert status_line(less) == status_line(view)


def test_attacks_are_sorted_by_what_the_attacker_has(found: Audit):
    page_of(found, found.folder.parent)
    chart = questions(read_view(found.folder.parent))[2].chart
    assert chart is not None
    assert [(g.title.split()[-1], [line.text for line in g.lines]) for g in chart.groups] == [
        ("weights", ["14 of 16", "13 of 16", "4 of 16", "1 of 16", "0 of 16"])
    ]


def test_the_images_at_the_top_are_of_the_strongest_attack(tmp_path: Path):
    run = tmp_path / "run"
    folder = run / "audit"
    plain, erased, after = (pictured(folder, f"{name}.png", hit=name != "erased") for name in ("base", "erased", "after"))
    weak, strong = done("quantise", [0, 1], [16, 16]), done("relearn", [0, 13], [16, 16], shown={0: erased, 1: after})
    base = replace(strong[1].result, readings=(replace(strong[1].result.readings[0], shown=plain), strong[1].result.readings[1]))
    page_of(audit(folder, *weak, strong[0], replace(strong[1], result=base)), run)
    [strip] = highlights(read_view(run))
    assert [(f.caption, f.marks[0].good) for f in strip.frames] == [
        ("base model", True), ("unlearned", True), ("after fine-tuning on other images", False)
    ]  # fmt: skip
    assert all(f.uri for f in strip.frames)


def test_every_verdict_has_a_title_and_a_rule():
    assert set(TITLES) == set(RULES)


def test_every_text_is_escaped(tmp_path: Path):
    shown = {i: pictured(tmp_path / "run" / "audit", f"{i}.png", EVIL) for i in (0, 1)}
    of = audit(
        tmp_path,
        *done(EVIL, [0, 16], [16, 16], shown=shown, unit=EVIL, threat=EVIL, concept=EVIL),
        failures=(Failure(EVIL, "base", EVIL, EVIL),),
        untried=(EVIL,),
        judges=("main", "second"),
    )
    text = page_of(of, tmp_path / "run")
    page = Markup.of(text)
    assert (page.dangers, page.unclosed) == ([], [])
    assert "<script" not in text
    assert EVIL in page.text
    assert "{{" in page.text


@pytest.mark.parametrize("name", ["../../secret.png", "{secret}", "link.png", "../../a\0b"])
def test_images_outside_the_audit_are_not_embedded(tmp_path: Path, name: str):
    """Results may come from someone else: a cell must not put this machine's files on the page."""
    folder, secret = tmp_path / "run" / "audit", tmp_path / "run" / "secret.png"
    folder.mkdir(parents=True)
    shown = pictured(folder, "b.png")
    secret.write_bytes((folder / "pictures" / "b.png").read_bytes())
    (folder / "pictures" / "link.png").symlink_to(secret)
    bad = (ExampleImage("p", 0, name.format(secret=secret), "neon", True),)
    of = audit(folder, *done("relearn", [0, 13], [16, 16], shown={0: bad, 1: shown}))
    assert len(Markup.of(page_of(of, folder.parent)).values("img", "src")) == 1


def test_a_page_of_failures_alone_is_still_a_page(tmp_path: Path):
    page = Markup.of(page_of(audit(tmp_path, failures=(Failure("p4d", "base", "neon", "no"),)), tmp_path / "run"))
    assert (page.unclosed, page.values("data", "value")) == ([], [])


def test_the_summary_claims_no_more_than_was_measured(found: Audit):
    tried, before, *outcomes = summarise(found)
    assert ("5 attacks in 6 settings" in tried, "16 images" in tried) == (True, True)
    assert ("0 of 16 images (0.0 to 19.4\u202f%)" in before, "15 of 16 images (71.7 to 98.9\u202f%)" in before) == (True, True)
    assert "relearn, lr 0.001 (13 of 16 images after 100 steps)" in said_of(outcomes, "relearn")
    assert "14 of 16 images" in said_of(outcomes, "few-shot")
    assert "1 of 16 images; up to 28.3\u202f% possible" in said_of(outcomes, "quantise")
    assert "4 of 16 images; 10.2 to 49.5\u202f%" in said_of(outcomes, "noise")
    assert "1 of 16 images" in said_of(outcomes, "wording")
    assert [text for text in outcomes if "p4d on the unlearned model" in text] == [outcomes[-2]]
    assert outcomes[-1].endswith("Not tried: p4d.")


@pytest.mark.parametrize(("unasked", "large"), [(6, True), (4, True), (3, False), (0, False)])
def test_what_is_seen_without_the_name_is_shown_and_if_it_is_much_the_summary_warns(tmp_path: Path, unasked: int, large: bool):
    """Half as often as with the name, 14 of 16, is much."""
    found = audit(tmp_path, *done("relearn", [0, 14], [16, 16], unasked={1: HitCount(8, {"main": unasked, "second": 0})}))
    [about] = found.table
    assert (about["at_large"], about["unasked"]["value"], about["unasked"]["pictures"]) == (large, unasked / 8, 8)
    [finding] = found.findings
    assert f"{unasked} of 8 images" in answer_of(finding, False).statements[0].text
    assert any(f"relearn ({unasked} of 8 images)" in text for text in summarise(found)) == large


def test_only_attacks_that_were_made_count(tmp_path: Path):
    mine, base = done("relearn", [0, 1], [16, 16])
    assert "1 attack, with seed 0" in summarise(audit(tmp_path, mine, base, *done("p4d", [0, 1], [16, 16])[1:]))[0]


def test_learnt_anew_has_different_reasons_with_and_without_a_control(tmp_path: Path):
    with_control, without = (
        said_of(summarise(audit(tmp_path, *done("few-shot", [0, 16], [16, 16], control))), "few-shot") for control in ([0, 16], None)
    )
    assert with_control != without
    assert "no model that never saw it was attacked" in without


@pytest.mark.parametrize(
    ("base", "shares"),
    [
        ([2, 16], ["2 of 16"]),  # it does not show the concept under plain prompts
        ([15, 1], ["1 of 16"]),  # nor under the attack
        ([15, 6], ["6 of 16", "15 of 16"]),  # the attack leaves it less than half
    ],
)
def test_what_the_base_model_lacks_is_said(base: list[int], shares: list[str], tmp_path: Path):
    found = audit(tmp_path, *done("wording", [0, 0], base))
    assert [f.state for f in found.findings] == ["blunt"]
    assert re.findall(r"\d+ of 16", said_of(summarise(found)[1:], "wording")) == shares


def test_what_other_settings_brought_is_shown(tmp_path: Path):
    """Also if it is more than under the setting that counts, the one that exceeds the control."""
    twenty, five = ((f"few-shot, pictures {n}", hits, control) for n, hits, control in ((20, [0, 16], [0, 16]), (5, [0, 9], [0, 0])))
    of = audit(tmp_path, *(d for label, hits, c in (twenty, five) for d in done(label, hits, [16, 16], c, name="few-shot")), control=True)
    [found], [table] = of.findings, of.table
    assert (found.unlearned.label, table["asr"]["value"], table["best_unlearned"]["value"]) == ("few-shot, pictures 5", 9 / 16, 1)
    assert "few-shot, pictures 20 (16 of 16 images after 1 steps)" in answer_of(found, False).statements[0].text
    assert "up to 100.0\u202f%" in Markup.of(page_of(of, tmp_path / "run")).text


def test_an_attack_that_ended_early_is_said_to_have(tmp_path: Path):
    why = "a loss is finite: at step 2 denoise = nan; lower --lr"
    found = audit(tmp_path, *done("relearn", [0, 1], [16, 16], cut=why))
    assert any("relearn on the unlearned model after 1 steps and relearn on" in text for text in summarise(found))
    assert f"after 1 steps: {why}." in answer_of(found.findings[0], False).statements[0].text


def test_without_a_control_the_summary_says_so(tmp_path: Path):
    assert "No model retrained without the concept was attacked" in summarise(audit(tmp_path, *done("relearn", [0, 1], [16, 16])))[-1]


def test_the_report_of_the_run_has_the_audits_answer(run_folder, tmp_path: Path):
    from expunge.reports.run_view import read_view
    from expunge.reports.text.verdict import answers

    folder = run_folder("r1", card={"concept": {"target": "neon", "kind": "style"}})
    assert TITLES["back"] != answers(read_view(folder))[2].badge
    of = audit(
        folder / "audit",
        *done("relearn", [0, 13], [16, 16]),
        *done("quantise", [0, 0], [16, 16]),
        *done("noise", [0, 13], [16, 16], concept="ring"),
    )
    of.write()
    answer = answers(read_view(folder))[2]
    assert (answer.status, answer.badge) == ("bad", TITLES["back"])
    assert [s.lead for s in answer.statements] == ["relearn", "quantise"]  # not the other concept's
    relearn = answer.statements[0]
    assert (relearn.row and relearn.row.value, relearn.base and relearn.base.value) == (13 / 16, 0)
    assert "57.0 to 93.4" in relearn.detail
    assert "audit/index.html" in answer.remark  # its cells are not there, so this page cannot show it
    assert status_line(read_view(folder)).endswith("Recovery: yes, by fine-tuning on other images, 13 of 16.")


def test_names_are_listed_as_in_a_sentence():
    assert listed(["a", "b"]) == "a and b"


def test_a_chart_needs_more_than_a_point():
    share = wilson(4, 16)
    assert recovery_chart([RecoveryLine(0, [(0.0, share)])], "steps", 0.1, "t") is None
    lines = [RecoveryLine(None, [(0.0, share), (25.0, share)]), RecoveryLine(0, [(0.0, share), (25.0, share)], faint=True)]
    chart = str(recovery_chart(lines, "s<b>", 0.1, "a<b"))
    assert "<title>a&lt;b</title>" in chart
    assert "s&lt;b&gt;" in chart
    assert ">25<" in chart
