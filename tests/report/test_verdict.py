"""The sentences say what the rows say, and no more."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report.folders import row, rows

from expunge.audits.verdict import TITLES
from expunge.evaluation.statistics import wilson
from expunge.reports.pages.run import write_report
from expunge.reports.run_view import read_view
from expunge.reports.text.answers import Answer
from expunge.reports.text.verdict import answers, status_line

Make = Callable[..., Path]
BASE_UA = row("UA", 0.02, 0.01, 0.05, "target", "base")


def asked(folder: Path) -> list[Answer]:
    return answers(read_view(folder))


@pytest.mark.parametrize(
    ("low", "value", "high", "status", "badge"),
    [
        (0.91, 0.95, 0.99, "good", "Removed"),
        (0.90, 0.95, 0.99, "fair", "Partly removed"),  # the interval reaches the limit
        (0.40, 0.45, 0.50, "fair", "Partly removed"),
        (0.40, 0.45, 0.49, "bad", "Not removed"),
        (0.04, 0.10, 0.20, "unknown", "Cannot tell"),  # overlaps the base model's 0.01 to 0.05
        (0.00, 0.001, 0.005, "bad", "Not removed"),  # seen more often than before
    ],
)
def test_removed_needs_the_whole_interval(run_folder: Make, low: float, value: float, high: float, status: str, badge: str):
    removed, _, _ = asked(run_folder(measured=[BASE_UA, row("UA", value, low, high, "target")]))
    assert (removed.status, removed.badge) == (status, badge)


def test_what_the_base_model_cannot_generate_is_not_called_removed(run_folder: Make):
    measured = [row("UA", 0.99, 0.95, 1.0, "target"), row("UA", 0.97, 0.93, 0.99, "target", "base")]
    removed, _, _ = asked(run_folder(measured=measured))
    assert (removed.status, removed.badge, removed.has_basis) == ("unknown", "Judge unfit", False)
    assert [s.status for s in removed.statements] == ["unknown"]


@pytest.mark.parametrize(("low", "is_fit"), [(0.0, False), (0.49, False), (0.5, True), (0.9, True)])
def test_a_judge_must_recognise_half_of_the_base_images_interval_included(run_folder: Make, low: float, is_fit: bool):
    """The base model's UA is the share of images in which the concept is missing, so its upper end decides."""
    base_ua = row("UA", (1 - low) / 2, 0.0, 1 - low, "target", "base")
    base_ira = row("IRA", (1 + low) / 2, low, 1.0, "siblings", "base")
    measured = [base_ua, row("UA", 1.0, 0.98, 1.0, "target"), base_ira, row("IRA", (1 + low) / 2, low, 1.0, "siblings")]
    removed, damaged, _ = asked(run_folder(measured=measured))
    assert (removed.has_basis, damaged.has_basis) == (is_fit, is_fit)
    assert (removed.badge != "Judge unfit", damaged.badge != "Judge unfit") == (is_fit, is_fit)


def test_a_judge_that_recognises_nothing_finds_no_damage(run_folder: Make):
    """A CLIP of random weights: no image is recognised before or after."""
    measured = [row(m, 0.0, 0.0, 0.01, "siblings", run) for m in ("IRA", "NRA") for run in ("r1", "base")]
    damaged = asked(run_folder(measured=measured))[1]
    assert (damaged.status, damaged.badge) == ("unknown", "Judge unfit")
    assert {s.status for s in damaged.statements} == {"unknown"}


def of_judge(judge: str, ua: float, base: float = 0.02) -> list[dict]:
    def share(value: float, run: str) -> dict:
        return row("UA", value, max(0.0, value - 0.02), min(1.0, value + 0.02), "target", run, judge=judge)

    return [share(ua, "r1"), share(base, "base")]


@pytest.mark.parametrize(
    ("main", "second", "status", "badge"),
    [
        ((0.98,), (0.98,), "good", "Removed"),
        ((0.98,), (0.2,), "bad", "Not removed, judges disagree"),
        ((0.2,), (0.98,), "bad", "Not removed, judges disagree"),
        ((0.98,), (0.02,), "unknown", "Cannot tell, judges disagree"),
        ((0.98,), (0.98, 0.9), "good", "Removed"),  # the second judge does not know the concept, so it has no say
        ((0.98, 0.9), (0.7,), "fair", "Partly removed"),  # the first does not, so the second decides
    ],
)
def test_both_judges_decide(run_folder: Make, main: tuple, second: tuple, status: str, badge: str):
    removed = asked(run_folder(measured=[*of_judge("main", *main), *of_judge("second", *second)]))[0]
    assert (removed.status, removed.badge) == (status, badge)
    if "disagree" in badge:
        assert all(f"“{judge}”" in removed.summary for judge in ("main", "second"))
        assert len(removed.statements) == 2


@pytest.mark.parametrize(
    ("drift", "status", "badge"),
    [(0.01, "good", "No damage shown"), (0.1, "fair", "Little damage"), (0.4, "bad", "Damage shown")],
)
def test_the_empty_prompts_drift_is_damage(run_folder: Make, drift: float, status: str, badge: str):
    measured = [row("IRA", *wilson(1000, 1000), "siblings", run) for run in ("r1", "base")]
    measured += [row("null_drift", v, v, v, "null", run, judge="none") for v, run in ((drift, "r1"), (0.0, "base"))]
    damaged = asked(run_folder(measured=measured))[1]
    assert (damaged.status, damaged.badge) == (status, badge)
    assert [s.status for s in damaged.statements if s.row and s.row.metric == "null_drift"] == [status]


def test_without_a_base_model_no_effect_is_claimed(run_folder: Make):
    removed, damaged, back = asked(run_folder(measured=[row("UA", 0.99, 0.95, 1.0, "target"), row("IRA", 0.2, 0.1, 0.3, "siblings")]))
    assert (removed.status, damaged.status, back.status) == ("unknown", "unknown", "unknown")
    assert [s.base for answer in (removed, damaged) for s in answer.statements] == [None, None]


@pytest.mark.parametrize(
    ("ua_syn", "badge"),
    [((0.91, 0.95, 0.99), "Removed"), ((0.6, 0.7, 0.8), "Partly removed"), ((0.1, 0.2, 0.3), "Removed by name only")],
)
def test_a_surviving_synonym_lowers_the_answer(run_folder: Make, ua_syn: tuple[float, float, float], badge: str):
    low, value, high = ua_syn
    measured = [BASE_UA, row("UA", 0.98, 0.95, 0.99, "target"), row("UA_syn", value, low, high, "synonyms")]
    removed, _, _ = asked(run_folder(measured=[*measured, row("UA_syn", 0.02, 0.0, 0.05, "synonyms", "base")]))
    assert removed.badge == badge


@pytest.mark.parametrize(
    ("synonyms", "named"),
    [([], ""), (["glow"], "synonym “glow”"), (["glow", "luminous"], "synonyms “glow” and “luminous”")],
)
def test_it_names_the_synonyms_that_were_targets(run_folder: Make, synonyms: list[str], named: str):
    measured = [r for r in rows() if r["judge"] == "main"]
    removed, _, _ = asked(run_folder(measured=measured, card={"concept": {"target": "neon", "kind": "style", "synonyms": synonyms}}))
    assert named in removed.remark
    assert ("“" in removed.remark) is bool(synonyms)


def test_unmeasured_synonyms_leave_the_answer_open(run_folder: Make):
    removed, _, _ = asked(run_folder(measured=[BASE_UA, row("UA", 0.98, 0.95, 0.99, "target")]))
    assert (removed.badge, [s.row and s.row.metric for s in removed.statements]) == ("Removed", ["UA"])
    assert "unknown" in removed.remark


def damage_of(run_folder: Make, low: float, value: float, high: float) -> Answer:
    base = row("IRA", 0.96, 0.94, 0.98, "siblings", "base")
    return asked(run_folder(measured=[base, row("IRA", value, low, high, "siblings")]))[1]


def test_intervals_that_meet_show_no_fall_and_bound_it(run_folder: Make):
    """0.98, the base's upper end, less 0.89, the run's lower end, leaves a fall of 9 points possible."""
    answer = damage_of(run_folder, 0.89, 0.92, 0.94)
    assert (answer.status, answer.badge) == ("good", "No damage shown")
    assert "9.0 points" in answer.statements[0].text


@pytest.mark.parametrize(
    ("low", "value", "high", "status", "badge", "text"),
    [
        (0.90, 0.92, 0.935, "fair", "Little damage", "fell by 4.0 points"),  # 0.96 - 0.92
        (0.80, 0.85, 0.90, "bad", "Damage shown", "fell by 11.0 points"),  # 0.96 - 0.85
        (0.985, 0.99, 1.0, "good", "No damage shown", "rose by 3.0 points"),  # 0.99 - 0.96
    ],
)
def test_a_shown_change_is_named_with_its_size(run_folder: Make, low: float, value: float, high: float, status: str, badge: str, text: str):
    answer = damage_of(run_folder, low, value, high)
    assert (answer.status, answer.badge) == (status, badge)
    assert text in answer.statements[0].text


def test_the_worst_fall_decides(run_folder: Make):
    measured = [row(m, 0.96, 0.94, 0.98, "siblings", "base") for m in ("NRA", "IRA", "CRA")]
    measured += [row("NRA", 0.7, 0.65, 0.75, "siblings"), row("IRA", 0.92, 0.9, 0.93, "siblings"), row("CRA", 0.96, 0.94, 0.98, "siblings")]
    damaged = asked(run_folder(measured=measured))[1]
    assert (damaged.status, damaged.summary) == ("bad", "NRA fell by 26.0 points")
    assert [(s.row and s.row.metric, s.status) for s in damaged.statements] == [("IRA", "fair"), ("CRA", "good"), ("NRA", "bad")]


@pytest.mark.parametrize(("p", "status", "badge"), [(0.03, "bad", "Damage shown"), (0.2, "good", "No damage shown")])
def test_a_paired_change_decides_and_not_the_intervals(run_folder: Make, p: float, status: str, badge: str):
    base, run = row("IRA", 0.98, 0.93, 0.99, "siblings", "base"), row("IRA", 0.92, 0.85, 0.96, "siblings")
    run |= {"change": -0.06, "change_low": -0.12, "change_high": -0.01, "losses": 6, "gains": 0, "p": p}
    damaged = asked(run_folder(measured=[base, run]))[1]
    assert (damaged.status, damaged.badge) == (status, badge)
    assert ("6.0 points" if status == "bad" else "12.0 points") in damaged.statements[0].text


def test_the_strongest_attack_decides(run_folder: Make):
    measured = [row("UA", v, v - 0.01, v + 0.01, "target", attack=a) for a, v in (("relearn", 0.3), ("inversion", 0.95))]
    back = asked(run_folder(measured=measured))[2]
    assert (back.status, back.badge, back.summary) == ("bad", "Yes", "UA 30.0\u202f% after relearn")
    assert [f.status for f in back.statements] == ["bad", "good"]


def test_a_second_judge_without_base_rows_has_no_say(run_folder: Make):
    measured = [row("UA", 0.2, 0.1, 0.3, "target", judge="second"), BASE_UA, row("UA", 0.98, 0.95, 0.99, "target")]
    assert asked(run_folder(measured=measured))[0].badge == "Removed"


def test_a_judge_of_another_name_is_the_main_one(run_folder: Make):
    measured = [row("UA", 0.98, 0.95, 0.99, "target", judge="clip"), BASE_UA | {"judge": "clip"}]
    drift = row("null_drift", 0.1, 0.1, 0.1, "null", judge="none")
    assert asked(run_folder(measured=[drift, *measured]))[0].badge == "Removed"


@pytest.mark.parametrize(
    ("n", "kept", "status", "badge"),
    [
        (33, 33, "good", "No damage shown"),  # down to 89.6 %: room for 10 points
        (10, 6, "unknown", "Cannot tell"),  # 40 points lost, and the intervals meet
        (33, 29, "unknown", "Cannot tell"),
        (1000, 1000, "good", "No damage shown"),
        (1000, 900, "bad", "Damage shown"),
    ],
)
def test_no_damage_is_said_only_where_there_is_no_room_for_much(run_folder: Make, n: int, kept: int, status: str, badge: str):
    measured = [row("NRA", *wilson(k, n), "siblings", run) for k, run in ((kept, "r1"), (n, "base"))]
    _, damaged, _ = asked(run_folder(measured=measured))
    assert (damaged.status, damaged.badge) == (status, badge)
    if status == "unknown":
        assert "possible" in damaged.summary
        assert "--seeds" in damaged.remark


def audited(folder: Path, name: str, findings: dict[str, str], failures: tuple[str, ...] = ()) -> None:
    share = {"value": 0.0, "low": 0.0, "high": 0.2}
    told = [{"attack": a, "concept": "neon", "verdict": v, "asr": share, "asr_before": share, "pictures": 16} for a, v in findings.items()]
    failed = [{"label": f, "role": "unlearned", "concept": "neon", "error": "no memory", "applicable": True} for f in failures]
    (folder / name).mkdir()
    (folder / name / "audit.json").write_text(json.dumps({"findings": told, "failures": failed}))


def test_of_several_audits_each_attack_counts_at_its_worst(run_folder: Make):
    """The broadest alone would hide what another found."""
    folder = run_folder(measured=[BASE_UA])
    audited(folder, "audit", {"relearn": "holds", "wording": "holds", "few-shot": "holds"})
    *_, back = asked(folder)
    assert (back.status, back.badge, "3 attacks" in back.summary) == ("good", TITLES["holds"], True)
    audited(folder, "audit-standard", {"relearn": "back"})
    *_, back = asked(folder)
    assert (back.status, back.badge, back.summary) == ("bad", TITLES["back"], f"{TITLES['back']}: relearn")
    assert "audit/index.html and audit-standard/index.html" in back.remark


def test_an_attack_that_was_not_done_does_not_count_as_resisted(run_folder: Make, tmp_path: Path):
    folder = run_folder(measured=[BASE_UA])
    audited(folder, "audit", {"wording": "holds"}, failures=("relearn",))
    *_, back = asked(folder)
    assert (back.status, back.badge) == ("unknown", "Incomplete")
    assert "1 attack, 1 not done" in back.summary
    assert [(s.lead, "no memory" in s.text, s.detail) for s in back.statements if s.row is None] == [("relearn", True, "")]
    assert "no memory" in write_report([folder], tmp_path / "report.html").read_text()


def test_the_status_line_has_all_three_answers(run_folder: Make):
    line = status_line(read_view(run_folder(measured=[BASE_UA, row("UA", 0.98, 0.95, 0.99, "target")])))
    assert line == "Removed: yes. Damage: not measured. Recovery: not measured, no attack was tried."
    line = status_line(read_view(run_folder("r2")))
    damaged = "Damage: yes, NRA fell by 10.0 points. Recovery: yes, 58.9\u202f% after fine-tuning on other images."
    assert line == f"Removed: in part, but the judges disagree. {damaged}"


NUMBERS = "pruning, 13 of 16; retrained control 2 of 16"


@pytest.mark.parametrize(
    ("verdict", "second", "brief", "sentence"),
    [
        ("back", "back", f"yes, by {NUMBERS}", "Pruning brings it back: the judge sees it in 13 of 16 images"),
        ("back", "unclear", f"yes, by {NUMBERS}, but the judges disagree", "Pruning brings it back: the judge sees it in 13 of 16 images"),
        ("blunt", "part", f"in part, by {NUMBERS}, but the judges disagree", "Pruning brings it back in part"),
        (
            "learnt",
            None,
            f"perhaps, by {NUMBERS}",
            "Under pruning the judge sees it in 13 of 16 images, against 0 of 16 before the attack and 2 of 16",
        ),
        ("present", None, "unknown, not shown to be removed before an attack", "It was not shown to be removed before any attack"),
        ("unclear", None, "unknown, too few images", "After pruning the judge sees it in 13 of 16 images"),
        ("blunt", "blunt", "unknown, the base model does not show it", "After pruning the judge sees it in 13 of 16 images"),
        ("holds", None, "no, under 1 attack", "The only attack does not bring it back: the judge sees it in at most 13 of 16 images."),
    ],
)
def test_every_verdict_of_an_audit_has_words_and_numbers(run_folder: Make, verdict: str, second: str | None, brief: str, sentence: str):
    folder = run_folder(measured=[BASE_UA])
    shares = {"asr": 13 / 16, "asr_before": 0.0, "asr_retrained": 2 / 16}
    finding = {name: {"value": value, "low": 0.0, "high": 1.0} for name, value in shares.items()}
    finding |= {"attack": "prune", "concept": "neon", "verdict": verdict, "second_judge": second, "pictures": 16}
    (folder / "audit").mkdir()
    (folder / "audit" / "audit.json").write_text(json.dumps({"findings": [finding]}))
    back = asked(folder)[2]
    assert back.brief == brief
    assert back.sentence.startswith(sentence)
