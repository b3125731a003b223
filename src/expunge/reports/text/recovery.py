"""Can it be brought back? The answer from the audits in a run's folder, or from rows of UA under attacks."""

import math
from collections.abc import Mapping
from typing import Any

from expunge.evaluation.folder import row_from
from expunge.evaluation.results import Row
from expunge.reports.format import listed, number, plural
from expunge.reports.run_view import RunView
from expunge.reports.tables import Compared
from expunge.reports.text.answers import STATES, WORST_FIRST, Answer, Statement, Status, audit_badge, level
from expunge.storage.json_files import as_table, as_tables, find_file, read_object

QUESTION = "Can it be brought back?"


def recovery(view: RunView, found: Compared) -> Answer:
    """The answer for a run's concept; an audit has precedence."""
    return _audited(view) or _attacked(found)


def _audited(view: RunView) -> Answer | None:
    """What the audits in the run's folder found for its concept; None without an audit. Each attack counts at its worst."""
    names = sorted(f.parent.name for f in view.folder.glob("audit*/audit.json"))
    audits = {name: read_object(file) for name in names if (file := find_file(view.folder, f"{name}/audit.json"))}
    concept = view.card.target
    found: dict[str, Mapping[str, Any]] = {}
    for finding in (f for audit in audits.values() for f in as_tables(audit.get("findings"))):
        if finding.get("concept") == concept and str(finding.get("verdict")) in STATES:
            name = str(finding.get("attack"))
            found[name] = min(finding, found.get(name, finding), key=_rank)
    failures = (f for audit in audits.values() for f in as_tables(audit.get("failures")))
    missed = [f for f in failures if f.get("concept") == concept and f.get("applicable")]
    failed = {str(f.get("label")): " ".join(str(f.get("error")).split()) for f in missed if f.get("label") not in found}
    if not found and not failed:
        return None
    statements = tuple(_attack(view, f) for f in found.values())
    statements += tuple(Statement("unknown", name, f"The attack was not done: {error}", None, None) for name, error in failed.items())
    pages = listed(f"{name}/index.html" for name in audits)
    remark = f"{pages} in the run's folder {'shows' if len(audits) == 1 else 'show'} every attack and control, and what each judge found."
    worst = min(found.values(), key=_rank, default=None)
    resisted = f"does not come back under {plural(sum(_badge(f)[0] == 'good' for f in found.values()), 'attack')}"
    if worst is None or (failed and _badge(worst)[0] == "good"):
        return Answer(QUESTION, "unknown", "Incomplete", f"{resisted}, {len(failed)} not done", statements, remark)
    status, badge = _badge(worst)
    return Answer(QUESTION, status, badge, resisted if status == "good" else f"{badge}: {worst.get('attack')}", statements, remark)


def _badge(finding: Mapping[str, Any]) -> tuple[Status, str]:
    second = finding.get("second_judge")
    return audit_badge(str(finding["verdict"]), str(second) if second else None)


def _rank(finding: Mapping[str, Any]) -> tuple[int, int]:
    """The worst verdict comes first; of equal ones the one that the main judge finds worst."""
    return WORST_FIRST.index(_badge(finding)[0]), list(STATES).index(finding["verdict"])


def _attack(view: RunView, finding: Mapping[str, Any]) -> Statement:
    name, (status, badge) = str(finding.get("attack")), _badge(finding)

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
        return Answer(QUESTION, "unknown", "Not measured", "no attack tried", (), remark)
    statements = tuple(
        Statement(level(r), f"After {r.attack}", f"In {number(r.value, True)} of the images the judge does not see the concept.", r, None)
        for r in attacked
    )
    worst = min(attacked, key=lambda r: r.value)
    badges: dict[Status, str] = {"good": "Not by these attacks", "fair": "In part", "bad": "Yes", "unknown": "Cannot tell"}
    status = level(worst)
    remark = "This holds for the attacks that were tried. A stronger attack may succeed where these fail."
    return Answer(QUESTION, status, badges[status], f"UA {number(worst.value, True)} after {worst.attack}", statements, remark)
