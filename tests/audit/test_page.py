"""The page of an audit: it says what was measured, escapes what it shows, and reaches for nothing."""

import re
from pathlib import Path

import pytest
from audit.invented import audit, done
from PIL import Image
from report.conftest import run_folder as run_folder
from report.markup import Markup

from expunge.audits.cells import Seen, Shown
from expunge.audits.results import Audit, Failure
from expunge.evaluation.statistics import wilson
from expunge.reports.charts.recovery import Line, curves
from expunge.reports.pages.audit import render, write
from expunge.reports.text.conclusions import listed, summary

EVIL = "<script>alert(1)</script> & {{ 7 * 7 }}"


def pictured(folder: Path, name: str, prompt: str = "a ring in neon style", hit: bool = True) -> tuple[Shown, ...]:
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 60)).save(folder / "pictures" / name)
    return (Shown(prompt, 0, name, "neon" if hit else "dots", hit),)


@pytest.fixture
def found(tmp_path: Path) -> Audit:
    """Four attacks, each with another end, beside a retrained control."""
    shown = {0: pictured(tmp_path, "a.png", hit=False), 2: pictured(tmp_path, "b.png")}
    return audit(
        tmp_path,
        *done("relearn, lr 0.001", [0, 4, 13], [15, 15, 15], [0, 0, 1], shown=shown, name="relearn", strengths=(0, 25, 100)),
        *done("relearn, lr 0.0001", [0, 2, 3], [15, 15, 15], [0, 0, 0], name="relearn", strengths=(0, 25, 100)),
        *done("few-shot", [0, 6, 14], [15, 16, 16], [0, 5, 15]),
        *done("quantise", [0, 0, 1], [15, 15, 12], [0, 0, 0], unit="bits removed"),
        *done("noise", [0, 3, 4], [15, 16, 16], [0, 0, 0]),
        *done("wording", [0, 0, 0], [15, 1, 0], [0, 0, 0]),
        failures=(Failure("p4d", "unlearned", "neon", "an attack needs words: there are none; give some"),),
        control=True,
    )


def test_what_judges_see_in_what_was_trained_on_is_said(tmp_path: Path):
    taught = Seen(256, {"main": 0, "second": 3})
    text = Markup.of(write(audit(tmp_path, *done("relearn", [0, 4], [15, 15], taught=taught)))).text
    assert "Of the 256 pictures that it trains on, judges see neon so often: main in none and second in 3." in text
    assert "pictures that it trains on" not in Markup.of(write(audit(tmp_path, *done("relearn", [0, 4], [15, 15])))).text


def test_the_page_holds_everything_and_reaches_for_nothing(found: Audit):
    out = write(found)
    page = Markup.of(out)
    assert out == found.folder / "index.html"
    assert (page.dangers, page.unclosed) == ([], [])
    for text in ("Can “neon” be brought back?", "Comes back", "Comes back or is learnt anew", "Cannot tell", "Not done", "there are none"):
        assert text in page.text
    assert "Does not come back within this budget" in page.text
    assert "The untouched model is no measure" in page.text
    assert sum(v.startswith("data:image/") for v in page.values("img", "src")) == 2
    assert page.tags.count("svg") == 5
    assert "81.2\u202f%" in page.text  # 13 of 16
    assert "57.0 to 93.4\u202f%" in page.text  # its Wilson interval
    assert render(found) == render(found)


def test_every_text_is_escaped(tmp_path: Path):
    shown = {0: pictured(tmp_path, "a.png", EVIL), 1: pictured(tmp_path, "b.png", EVIL)}
    of = audit(
        tmp_path,
        *done(EVIL, [0, 16], [16, 16], shown=shown, unit=EVIL, threat=EVIL, concept=EVIL),
        failures=(Failure(EVIL, "base", EVIL, EVIL),),
        untried=(EVIL,),
        judges=("main", "second"),
    )
    text = render(of)
    page = Markup.of(text)
    assert (page.dangers, page.unclosed) == ([], [])
    assert "<script" not in text
    assert EVIL in page.text
    assert "49" not in re.sub(r"[\d.]+\d", "", page.text)


def test_a_page_of_failures_alone_is_still_a_page(tmp_path: Path):
    page = Markup.of(render(audit(tmp_path, failures=(Failure("p4d", "base", "neon", "no"),))))
    assert "No attack was carried through." in page.text
    assert "nothing is known" in page.text
    assert page.unclosed == []


def test_the_summary_claims_no_more_than_was_measured(found: Audit):
    text = " ".join(summary(found))
    assert "5 attacks in 6 settings, with seed 0" in text
    assert "judged by 16 pictures" in text
    assert "“neon” is seen in 0 of 16 pictures (0.0 to 19.4\u202f%) of the unlearned model" in text
    assert "15 of 16 pictures (71.7 to 98.9\u202f%) of the untouched one" in text
    assert "It comes back under relearn, lr 0.001 (13 of 16 pictures after 100 steps)." in text
    assert "it may have been learnt anew rather than brought back" in text
    assert (
        "does not come back within this budget under quantise (seen in 1 of 16 pictures at most; up to 28.3\u202f% not ruled out)" in text
    )
    assert "cannot be told whether it comes back under noise (seen in 4 of 16 pictures at most; 10.2 to 49.5\u202f%)" in text
    assert "Under wording nothing can be said: attacked so, the untouched model shows it in 1 of 16 pictures, which may be no more" in text
    assert "Not done, for the reasons given below: p4d on the unlearned model." in text
    assert "Not tried at all: p4d." in text
    assert "It is no proof that the concept is gone" in text
    assert "No model retrained" not in text


@pytest.mark.parametrize(("unasked", "large"), [(6, True), (4, True), (3, False), (0, False)])
def test_what_is_seen_unasked_is_said_and_where_it_is_much_the_summary_warns(tmp_path: Path, unasked: int, large: bool):
    """Half as often as where it is asked for, 14 of 16, is much."""
    found = audit(tmp_path, *done("relearn", [0, 14], [16, 16], unasked={1: Seen(8, {"main": unasked, "second": 0})}))
    [about] = found.table
    assert (about["at_large"], about["unasked"]["value"], about["unasked"]["pictures"]) == (large, unasked / 8, 8)
    page = Markup.of(write(found)).text
    assert f"Prompts that do not name it show it then in {unasked} of 8 pictures." in page
    assert (f"under relearn ({unasked} of 8 pictures) it is also seen where no prompt names it" in page) == large


def test_only_attacks_that_were_made_count(tmp_path: Path):
    mine, base = done("relearn", [0, 1], [16, 16])
    assert "1 attack, with seed 0" in summary(audit(tmp_path, mine, base, *done("p4d", [0, 1], [16, 16])[1:]))[0]


def test_learnt_anew_is_no_finding_of_a_control_that_was_not_attacked(tmp_path: Path):
    def told(control: list[int] | None) -> str:
        return " ".join(summary(audit(tmp_path, *done("few-shot", [0, 16], [16, 16], control))))

    assert "a model that never saw it could not be told from this one: it may have been learnt anew" in told([0, 16])
    assert "no model that never saw it was attacked to compare with: it may have been learnt anew" in told(None)
    assert "could not be told" not in told(None)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ([2, 16], "under plain prompts the untouched model shows it in 2 of 16 pictures, which may be no more than a guess would give."),
        ([15, 1], "attacked so, the untouched model shows it in 1 of 16 pictures, which may be no more than a guess would give."),
        (
            [15, 6],
            "attacked so, the untouched model shows it in 6 of 16 pictures, less than half as often as before, in 15 of 16 pictures.",
        ),
    ],
)
def test_what_the_untouched_model_lacks_is_said(base: list[int], why: str, tmp_path: Path):
    assert f"Under wording nothing can be said: {why}" in summary(audit(tmp_path, *done("wording", [0, 0], base)))


def test_what_other_settings_brought_is_said(tmp_path: Path):
    """Also where it is more than under the setting that counts, the one that beats the control."""
    twenty, five = ((f"few-shot, pictures {n}", hits, control) for n, hits, control in ((20, [0, 16], [0, 16]), (5, [0, 9], [0, 0])))
    of = audit(tmp_path, *(d for label, hits, c in (twenty, five) for d in done(label, hits, [16, 16], c, name="few-shot")), control=True)
    [found], [told], page = of.findings, of.table, Markup.of(write(of))
    assert (found.unlearned.label, told["asr"]["value"], told["best_unlearned"]["value"]) == ("few-shot, pictures 5", 9 / 16, 1)
    assert "Under other settings: few-shot, pictures 20 (16 of 16 pictures after 1 steps)." in page.text
    assert "others up to 100.0\u202f%" in page.text


def test_an_attack_that_was_cut_short_is_said_to_be(tmp_path: Path):
    why = "Training failed at step 2: the term 'denoise' is nan. Try a lower --lr."
    text = Markup.of(write(audit(tmp_path, *done("relearn", [0, 1], [16, 16], cut=why)))).text
    assert "no longer finite, so that nothing is known from there on: relearn on the unlearned model after 1 steps and relearn on" in text
    assert f"Cut short after 1 steps: {why} " in f"{text} "


def test_without_a_control_the_summary_says_so(tmp_path: Path):
    assert "No model retrained without the concept was attacked" in summary(audit(tmp_path, *done("relearn", [0, 1], [16, 16])))[-1]


def test_the_report_of_the_run_has_the_audits_answer(run_folder, tmp_path: Path):
    from expunge.reports.run_folder import read
    from expunge.reports.text.verdict import answers

    folder = run_folder("r1", card={"concept": {"target": "neon", "kind": "style"}})
    assert "unlearned" not in answers(read(folder))[2].badge
    of = audit(
        folder / "audit",
        *done("relearn", [0, 13], [16, 16]),
        *done("quantise", [0, 0], [16, 16]),
        *done("noise", [0, 13], [16, 16], concept="ring"),
    )
    of.write()
    told = answers(read(folder))[2]
    assert (told.status, told.badge, told.summary) == ("bad", "Comes back", "Comes back: relearn")
    assert [f.lead for f in told.findings] == ["relearn", "quantise"]  # not the other concept's
    assert told.findings[0].text == "comes back. Seen in 81.2\u202f% at its best, in 0.0\u202f% before."
    assert "57.0 to 93.4" in told.findings[0].detail
    assert "audit/index.html" in told.remark


def test_names_are_listed_as_in_a_sentence():
    assert listed(["a", "b"]) == "a and b"


def test_a_chart_needs_more_than_a_point():
    share = wilson(4, 16)
    assert curves([Line(0, [(0.0, share)])], "steps", 0.1, "t") is None
    chart = str(curves([Line(None, [(0.0, share), (25.0, share)]), Line(0, [(0.0, share), (25.0, share)], faint=True)], "s<b>", 0.1, "a<b"))
    assert "<title>a&lt;b</title>" in chart
    assert "s&lt;b&gt;" in chart
    assert ">25<" in chart
