"""Does the concept come back? The answer from the audits of a run, or from rows of UA under attacks."""

import math
from collections.abc import Mapping
from typing import Any

from expunge.evaluation.folder import row_from
from expunge.evaluation.results import Row
from expunge.reports.format import listed, number, plural
from expunge.reports.run_view import RunView
from expunge.reports.tables import Compared
from expunge.reports.text.answers import STATES, WORST_FIRST, Answer, Statement, Status, audit_badge, level
from expunge.reports.text.attackers import plain_name
from expunge.storage.json_files import as_float, as_table, as_tables

QUESTION = "Does it come back?"
BRIEFS = {
    "back": "yes, by {}",
    "part": "in part, by {}",
    "learnt": "perhaps, by {}",
    "present": "unknown, not shown to be removed before an attack",
    "unclear": "unknown, too few images",
    "blunt": "unknown, the base model does not show it",
}
"""The worst verdict of an audit in the status line; {} is the attack with its numbers."""
MEANT = {
    "back": "{} brings it back: the judge sees it in {}.",
    "part": "{} brings it back in part: the judge sees it in {}.",
    "learnt": "Under {} the judge sees it in {}; the attack may have taught it anew.",
    "present": "It was not shown to be removed before any attack; after {} the judge sees it in {}.",
    "unclear": "After {} the judge sees it in {}: too few images to tell.",
    "blunt": "After {} the judge sees it in {}; no verdict follows, because the base model does not show it.",
}
"""The same in a sentence; {} are the attack and the images."""


def recovery(view: RunView, found: Compared) -> Answer:
    """The answer for a run's concept; an audit has precedence."""
    return _audited(view) or _attacked(found)


def findings_of(view: RunView) -> dict[str, Mapping[str, Any]]:
    """By attack, the worst finding of all audits on the run's concept."""
    found: dict[str, Mapping[str, Any]] = {}
    for finding in (f for audit in view.audits for f in as_tables(audit.table.get("findings"))):
        if finding.get("concept") == view.card.target and str(finding.get("verdict")) in STATES:
            name = str(finding.get("attack"))
            found[name] = min(finding, found.get(name, finding), key=rank)
    return found


def count_of(finding: Mapping[str, Any], share: str) -> str:
    """A share of a finding as a count: "15 of 16"; empty if it was not measured."""
    value, n = as_float(as_table(finding.get(share)).get("value")), as_float(finding.get("pictures"))
    return f"{value * n:.0f} of {n:.0f}" if math.isfinite(value * n) else ""


def rank(finding: Mapping[str, Any]) -> tuple[int, int, float]:
    """The worst verdict comes first; of equal ones the one that the main judge finds worst, then the one with the highest share."""
    share = as_float(as_table(finding.get("asr")).get("value"))
    return WORST_FIRST.index(badge_of(finding)[0]), list(STATES).index(finding["verdict"]), -share if math.isfinite(share) else 0.0


def badge_of(finding: Mapping[str, Any]) -> tuple[Status, str]:
    """The status and the badge of a finding, by both judges."""
    second = finding.get("second_judge")
    return audit_badge(str(finding["verdict"]), str(second) if second else None)


def _audited(view: RunView) -> Answer | None:
    """What the audits found for the run's concept; None without an audit. Each attack counts at its worst."""
    found = findings_of(view)
    failures = (f for audit in view.audits for f in as_tables(audit.table.get("failures")))
    missed = [f for f in failures if f.get("concept") == view.card.target and f.get("applicable")]
    failed = {str(f.get("label")): " ".join(str(f.get("error")).split()) for f in missed if f.get("label") not in found}
    if not found and not failed:
        return None
    statements = tuple(_attack(view, f) for f in found.values())
    statements += tuple(Statement("unknown", name, f"The attack was not done: {error}", None, None) for name, error in failed.items())
    remark = _where(view)
    worst = min(found.values(), key=rank, default=None)
    held = plural(sum(badge_of(f)[0] == "good" for f in found.values()), "attack")
    resisted = f"does not come back under {held}"
    if worst is None or (failed and badge_of(worst)[0] == "good"):
        brief, done = f"unknown, {plural(len(failed), 'attack')} not done", f"It {resisted}; {plural(len(failed), 'attack')} failed."
        return Answer(QUESTION, "unknown", "Incomplete", f"{resisted}, {len(failed)} not done", statements, remark, brief, done)
    status, badge = badge_of(worst)
    if status == "good":
        brief, most = f"no, under {held}", max(found.values(), key=lambda f: as_float(as_table(f.get("asr")).get("value")))
        none = "The only attack does not bring it back" if len(found) == 1 else f"None of {held} brings it back"
        sentence = f"{none}: the judge sees it in at most {count_of(most, 'asr')} images."
        return Answer(QUESTION, status, badge, resisted, statements, remark, brief, sentence)
    return Answer(
        QUESTION, status, badge, f"{badge}: {worst.get('attack')}", statements, remark, _brief(worst), _sentence(worst, len(found))
    )


def _brief(worst: Mapping[str, Any]) -> str:
    control = count_of(worst, "asr_retrained")
    numbers = f"{plain_name(str(worst.get('attack')))}, {count_of(worst, 'asr')}" + (f"; retrained control {control}" if control else "")
    brief = BRIEFS.get(_decisive(worst), "unknown").format(numbers)
    return f"{brief}, but the judges disagree" if "disagree" in badge_of(worst)[1] else brief


def _sentence(worst: Mapping[str, Any], attacks: int) -> str:
    name, control = plain_name(str(worst.get("attack"))), count_of(worst, "asr_retrained")
    numbers = f"{count_of(worst, 'asr')} images, against {count_of(worst, 'asr_before')} before the attack"
    numbers += f" and {control} in the retrained control" if control else ""
    text = MEANT.get(_decisive(worst), MEANT["unclear"]).format(name, numbers)
    text = text[:1].upper() + text[1:]
    return text if attacks == 1 else f"{text} It is the strongest of {plural(attacks, 'attack')}."


def _decisive(finding: Mapping[str, Any]) -> str:
    """The verdict that counts: the worse of both judges'."""
    states = [s for s in (str(finding["verdict"]), str(finding.get("second_judge"))) if s in STATES and s != "blunt"]
    return min(states, key=list(STATES).index) if states else "blunt"


def _where(view: RunView) -> str:
    """Where an audit is shown that this page cannot show, because an older version made it."""
    pages = [f"{audit.name}/index.html" for audit in view.audits if audit.audit is None]
    if not pages:
        return ""
    return (
        f"{listed(pages)} in the run's folder {'shows' if len(pages) == 1 else 'show'} every attack and control, and what each judge found."
    )


def _attack(view: RunView, finding: Mapping[str, Any]) -> Statement:
    name, (status, badge) = str(finding.get("attack")), badge_of(finding)

    def row(share: str) -> Row:
        ends = as_table(finding.get(share))
        about = {"run": view.card.id, "metric": "ASR", "probe": "target", "attack": name, "n": finding.get("pictures")}
        values = {"value": ends.get("value"), "ci_low": ends.get("low"), "ci_high": ends.get("high")}
        return row_from(about | values, view.folder / "audit.json")

    after, before = row("asr"), row("asr_before")
    text = (
        f"{badge}. At the best reading the judge sees the concept in {number(after.value, True)} of the images (before the "
        f"attack: {number(before.value, True)})."
    )
    return Statement(status, name, text, after, before, "before the attack")


def _attacked(found: Compared) -> Answer:
    """The answer from rows of UA under attacks, for a run without an audit."""
    attacked = [r for k, r in found.run.items() if k.metric == "UA" and k.attack != "none" and math.isfinite(r.value)]
    if not attacked:
        remark = "No attack was tried. Try `expunge audit` to measure whether the concept can be brought back."
        return Answer(QUESTION, "unknown", "Not measured", "no attack tried", (), remark, "not measured, no attack was tried", remark)
    statements = tuple(
        Statement(level(r), f"After {r.attack}", f"In {number(r.value, True)} of the images the judge does not see the concept.", r, None)
        for r in attacked
    )
    worst = min(attacked, key=lambda r: r.value)
    badges: dict[Status, str] = {"good": "Not by these attacks", "fair": "In part", "bad": "Yes", "unknown": "Cannot tell"}
    status = level(worst)
    remark = "This holds for the attacks that were tried. A stronger attack may succeed where these fail."
    summary, name = f"UA {number(worst.value, True)} after {worst.attack}", plain_name(worst.attack)
    brief = f"{badges[status].lower()}, {number(1 - worst.value, True)} after {name}"
    sentence = f"After {name} the judge sees the concept in {number(1 - worst.value, True)} of the images."
    return Answer(QUESTION, status, badges[status], summary, statements, remark, brief, sentence)
