"""What the rows of a run say, in sentences: is the concept removed, what else is damaged, can it be brought back.

A sentence claims no more than was measured. What counts as a difference is decided in `expunge.reports.comparison`; if no difference
is shown, the sentence gives the largest fall that the intervals allow.
"""

from collections.abc import Sequence
from dataclasses import replace

from expunge.reports.run_view import RunView
from expunge.reports.tables import compare
from expunge.reports.text.answers import WORST_FIRST, Answer
from expunge.reports.text.damage import damage
from expunge.reports.text.recovery import recovery
from expunge.reports.text.removal import removal


def answers(view: RunView) -> list[Answer]:
    """The answers to the three questions. Every judge that measured a question has a say in its answer."""
    found = compare(view)
    second = found.by_second
    return [
        agree(removal(view.card, found), removal(view.card, second), found.judges),
        agree(damage(found), damage(second), found.judges),
        recovery(view, found),
    ]


def status_line(view: RunView) -> str:
    """The verdict in one line: "Removed: yes. Damage: none found. Recovery: yes, by textual inversion, 15 of 16." """
    return in_one_line(answers(view))


def in_one_line(three: Sequence[Answer]) -> str:
    """The status line of a run from its three answers."""
    names = ("Removed", "Damage", "Recovery")
    return " ".join(f"{name}: {answer.brief or answer.summary}." for name, answer in zip(names, three, strict=True))


def agree(first: Answer, second: Answer, judges: tuple[str, str]) -> Answer:
    """One answer from two judges' answers. A judge that measured nothing, or does not recognise the base model's images, has no say.

    Where they disagree the worse answer counts, and the summary gives both. “Cannot tell” is worse than an answer without fault.
    """
    if not second.has_basis or second.badge == first.badge:
        return first
    said = "; ".join(_said(judge, answer) for judge, answer in zip(judges, (first, second), strict=True))
    if not first.has_basis:
        return replace(second, remark=f"{second.remark} The judge “{judges[1]}” decides: {said}.".lstrip()) if first.statements else second
    worse = min(first, second, key=lambda answer: WORST_FIRST.index(answer.status))
    others = (replace(s, lead=f"{s.lead}, judge “{judges[1]}”") for s in second.statements)
    statements, remark = (*first.statements, *others), f"{first.remark} The judges disagree: {said}.".lstrip()
    return replace(
        first,
        status=worse.status,
        badge=f"{worse.badge}, judges disagree",
        summary=said,
        statements=statements,
        remark=remark,
        brief=f"{worse.brief or worse.summary}, but the judges disagree",
        sentence=worse.sentence,
    )


def _said(judge: str, answer: Answer) -> str:
    return f"“{judge}” says “{answer.badge}” ({answer.summary})"
