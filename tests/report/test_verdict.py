"""The sentences say what the rows say, and no more."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report.folders import row

from expunge.evaluation.statistics import wilson
from expunge.reports.pages.run import write
from expunge.reports.run_folder import read
from expunge.reports.text.verdict import Answer, answers

Make = Callable[..., Path]
BASE_UA = row("UA", 0.02, 0.01, 0.05, "target", "base")


def asked(folder: Path) -> list[Answer]:
    return answers(read(folder))


@pytest.mark.parametrize(
    ("low", "value", "high", "status", "badge"),
    [
        (0.91, 0.95, 0.99, "good", "Gone, as measured"),
        (0.90, 0.95, 0.99, "fair", "Partly gone"),  # the interval reaches the limit
        (0.40, 0.45, 0.50, "fair", "Partly gone"),
        (0.40, 0.45, 0.49, "bad", "Not gone"),
        (0.04, 0.10, 0.20, "unknown", "Cannot be told"),  # meets the untouched model's 0.01 to 0.05
        (0.00, 0.001, 0.005, "bad", "Not gone"),  # seen more often than before
    ],
)
def test_gone_needs_the_whole_interval(run_folder: Make, low: float, value: float, high: float, status: str, badge: str):
    gone, _, _ = asked(run_folder(measured=[BASE_UA, row("UA", value, low, high, "target")]))
    assert (gone.status, gone.badge) == (status, badge)


def test_what_the_untouched_model_cannot_draw_is_not_called_gone(run_folder: Make):
    measured = [row("UA", 0.99, 0.95, 1.0, "target"), row("UA", 0.97, 0.93, 0.99, "target", "base")]
    gone, _, _ = asked(run_folder(measured=measured))
    assert gone.badge == "Cannot be told"
    assert "no effect of the erasure was shown" in gone.findings[0].text


def test_without_a_base_nothing_is_put_down_to_the_erasure(run_folder: Make):
    gone, hurt, back = asked(run_folder(measured=[row("UA", 0.99, 0.95, 1.0, "target"), row("IRA", 0.2, 0.1, 0.3, "siblings")]))
    assert (gone.status, hurt.status, back.status) == ("unknown", "unknown", "unknown")
    assert "nothing is known about damage" in hurt.remark


@pytest.mark.parametrize(
    ("ua_syn", "badge"),
    [((0.91, 0.95, 0.99), "Gone, as measured"), ((0.6, 0.7, 0.8), "Partly gone"), ((0.1, 0.2, 0.3), "Gone by name only")],
)
def test_a_surviving_synonym_lowers_the_answer(run_folder: Make, ua_syn: tuple[float, float, float], badge: str):
    low, value, high = ua_syn
    measured = [BASE_UA, row("UA", 0.98, 0.95, 0.99, "target"), row("UA_syn", value, low, high, "synonyms")]
    gone, _, _ = asked(run_folder(measured=[*measured, row("UA_syn", 0.02, 0.0, 0.05, "synonyms", "base")]))
    assert gone.badge == badge


@pytest.mark.parametrize(
    ("synonyms", "remark"),
    [
        ([], "No synonym was given as a target"),
        (["glow"], "“glow” was given as a target too"),
        (["glow", "luminous"], "“glow” and “luminous” were given as a target too"),
    ],
)
def test_it_says_whether_synonyms_were_targets(run_folder: Make, synonyms: list[str], remark: str):
    gone, _, _ = asked(run_folder(card={"concept": {"target": "neon", "kind": "style", "synonyms": synonyms}}))
    assert gone.remark.startswith(remark)


def test_unmeasured_synonyms_are_named_as_open(run_folder: Make):
    gone, _, _ = asked(run_folder(measured=[BASE_UA, row("UA", 0.98, 0.95, 0.99, "target")]))
    assert "remains open" in gone.remark


def hurt_by(run_folder: Make, low: float, value: float, high: float) -> Answer:
    base = row("IRA", 0.96, 0.94, 0.98, "siblings", "base")
    return asked(run_folder(measured=[base, row("IRA", value, low, high, "siblings")]))[1]


def test_intervals_that_meet_show_no_fall_and_bound_it(run_folder: Make):
    """0.98, the base's upper end, less 0.89, the run's lower end, leaves a fall of 9 points possible."""
    answer = hurt_by(run_folder, 0.89, 0.92, 0.94)
    assert (answer.status, answer.badge) == ("good", "No damage shown")
    assert "no change shown, a fall of up to 9.0 points not ruled out" in answer.findings[0].text


@pytest.mark.parametrize(
    ("low", "value", "high", "status", "badge", "text"),
    [
        (0.90, 0.92, 0.935, "fair", "A little", "fell by 4.0 points"),  # 0.96 - 0.92
        (0.80, 0.85, 0.90, "bad", "Damage shown", "fell by 11.0 points"),  # 0.96 - 0.85
        (0.985, 0.99, 1.0, "good", "No damage shown", "rose by 3.0 points"),  # 0.99 - 0.96
    ],
)
def test_a_shown_change_is_named_with_its_size(run_folder: Make, low: float, value: float, high: float, status: str, badge: str, text: str):
    answer = hurt_by(run_folder, low, value, high)
    assert (answer.status, answer.badge) == (status, badge)
    assert text in answer.findings[0].text


def test_the_worst_fall_decides(run_folder: Make):
    measured = [row(m, 0.96, 0.94, 0.98, "siblings", "base") for m in ("NRA", "IRA", "CRA")]
    measured += [row("NRA", 0.7, 0.65, 0.75, "siblings"), row("IRA", 0.92, 0.9, 0.93, "siblings"), row("CRA", 0.96, 0.94, 0.98, "siblings")]
    hurt = asked(run_folder(measured=measured))[1]
    assert (hurt.status, hurt.summary) == ("bad", "NRA fell by 26.0 points")
    assert [f.status for f in hurt.findings] == ["bad", "fair", "good"]


def test_the_strongest_attack_decides(run_folder: Make):
    measured = [row("UA", v, v - 0.01, v + 0.01, "target", attack=a) for a, v in (("relearn", 0.3), ("inversion", 0.95))]
    back = asked(run_folder(measured=measured))[2]
    assert (back.status, back.badge, back.summary) == ("bad", "Yes", "UA 30.0\u202f% after relearn")
    assert [f.status for f in back.findings] == ["bad", "good"]


def test_the_main_judge_decides_whatever_the_second_says(run_folder: Make):
    measured = [row("UA", 0.2, 0.1, 0.3, "target", judge="second"), BASE_UA, row("UA", 0.98, 0.95, 0.99, "target")]
    assert asked(run_folder(measured=measured))[0].badge == "Gone, as measured"


def test_a_judge_of_another_name_is_the_main_one(run_folder: Make):
    measured = [row("UA", 0.98, 0.95, 0.99, "target", judge="clip"), BASE_UA | {"judge": "clip"}]
    drift = row("null_drift", 0.1, 0.1, 0.1, "null", judge="none")
    assert asked(run_folder(measured=[drift, *measured]))[0].badge == "Gone, as measured"


@pytest.mark.parametrize(
    ("n", "kept", "status", "badge"),
    [
        (33, 33, "good", "No damage shown"),  # down to 89.6 %: room for 10 points
        (10, 6, "unknown", "Cannot be told"),  # 40 points lost, and the intervals meet
        (33, 29, "unknown", "Cannot be told"),
        (1000, 1000, "good", "No damage shown"),
        (1000, 900, "bad", "Damage shown"),
    ],
)
def test_no_damage_is_said_only_where_there_is_no_room_for_much(run_folder: Make, n: int, kept: int, status: str, badge: str):
    measured = [row("NRA", *wilson(k, n), "siblings", run) for k, run in ((kept, "r1"), (n, "base"))]
    _, hurt, _ = asked(run_folder(measured=measured))
    assert (hurt.status, hurt.badge) == (status, badge)
    if status == "unknown":
        assert "possible" in hurt.summary
        assert "narrow the intervals" in hurt.remark


def audited(folder: Path, name: str, findings: dict[str, str], failures: tuple[str, ...] = ()) -> None:
    share = {"value": 0.0, "low": 0.0, "high": 0.2}
    told = [
        {"attack": a, "concept": "neon", "verdict": v, "in_words": v.title(), "asr": share, "asr_before": share, "pictures": 16}
        for a, v in findings.items()
    ]
    failed = [{"label": f, "role": "unlearned", "concept": "neon", "error": "no memory", "applicable": True} for f in failures]
    (folder / name).mkdir()
    (folder / name / "audit.json").write_text(json.dumps({"findings": told, "failures": failed}))


def test_of_several_audits_each_attack_counts_at_its_worst(run_folder: Make):
    """The broadest alone would hide what another found."""
    folder = run_folder(measured=[BASE_UA])
    audited(folder, "audit", {"relearn": "holds", "wording": "holds", "few-shot": "holds"})
    *_, back = asked(folder)
    assert (back.status, back.summary) == ("good", "3 attacks withstood")
    audited(folder, "audit-standard", {"relearn": "back"})
    *_, back = asked(folder)
    assert (back.status, back.badge, back.summary) == ("bad", "Back", "Back: relearn")
    assert "audit/index.html, audit-standard/index.html say" in back.remark


def test_an_attack_that_could_not_be_done_was_not_withstood(run_folder: Make, tmp_path: Path):
    folder = run_folder(measured=[BASE_UA])
    audited(folder, "audit", {"wording": "holds"}, failures=("relearn",))
    *_, back = asked(folder)
    assert (back.status, back.summary) == ("unknown", "1 attacks withstood, 1 not done")
    assert [(f.lead, f.text, f.detail) for f in back.findings if f.row is None] == [("relearn", "not done: no memory", "")]
    assert "not done: no memory" in write([folder], tmp_path / "report.html").read_text()
