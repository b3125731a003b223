"""The three questions of a run's page: each has an answer and one chart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from expunge.evaluation.results import Row
from expunge.reports.charts.dots import Dot, DotChart, DotGroup, DotLine, Who, dot_chart
from expunge.reports.comparison import change_of
from expunge.reports.format import difference, interval, number
from expunge.reports.glossary import retain_metrics, title_of
from expunge.reports.run_view import RunView
from expunge.reports.tables import Compared, compare
from expunge.reports.text.answers import Answer
from expunge.reports.text.attackers import ACCESS, access_of, plain_name
from expunge.reports.text.damage import DRIFT
from expunge.reports.text.recovery import badge_of, count_of, findings_of
from expunge.reports.text.verdict import answers
from expunge.storage.json_files import as_float, as_table


@dataclass(frozen=True)
class Question:
    """A question with its answer and its chart."""

    id: str
    answer: Answer
    chart: DotChart | None


def questions(view: RunView) -> list[Question]:
    """What was measured of one concept of a run."""
    found = compare(view)
    charts = (_removed(found, view.card.target), _changed(found), _recovered(view))
    return [Question(*both) for both in zip(("gone", "changed", "back"), answers(view), charts, strict=True)]


def _removed(found: Compared, target: str | None) -> DotChart | None:
    title = f"Images in which the judge sees {f'“{target}”' if target else 'the concept'}"
    metrics = {"UA": "Prompts that name it", "UA_syn": "Prompts that name it by a synonym"}
    groups = [DotGroup("", _shares_of(found, metrics, True))]
    if unknown := _shares_of(found, {"OOD": "Prompts that name it"}, False):
        groups.append(DotGroup("Images in which it recognises nothing, where few are best", unknown))
    return dot_chart(title, groups)


def _changed(found: Compared) -> DotChart | None:
    metrics = {metric: title_of(metric) for metric in retain_metrics()}
    groups = [DotGroup("", tuple(sorted(_shares_of(found, metrics, False), key=_fall)))]
    row, _ = found.find(DRIFT)
    if row and math.isfinite(row.value):
        line = DotLine("Change of the prediction", DRIFT, (_dot("run", row),), number(row.value, True), (_ends(row),))
        groups.append(DotGroup("Empty prompt, where no change is best", (line,)))
    return dot_chart("Images in which the judge sees what the prompt names", groups)


def _shares_of(found: Compared, metrics: Mapping[str, str], is_inverted: bool) -> tuple[DotLine, ...]:
    """A line for each metric that was measured. `is_inverted` counts the other images: those in which the concept is seen."""
    lines = []
    for metric, label in metrics.items():
        row, base = found.find(metric)
        if row is None or not math.isfinite(row.value):
            continue
        shown = [_dot(who, of, is_inverted) for who, of in (("base", base), ("run", row)) if of and math.isfinite(of.value)]
        mine = shown[-1]
        details = [interval(mine.low, mine.high, True)]
        if base and len(shown) > 1:
            details.append(f"before: {number(shown[0].value, True)}")
        if not is_inverted and (change := change_of(base, row)) and change.value:
            details.append(difference(change.value, True))
        second, _ = found.by_second.find(metric)
        if second and math.isfinite(second.value):
            details.append(f"second judge: {number(_dot('run', second, is_inverted).value, True)}")
        lines.append(DotLine(label, metric, tuple(shown), number(mine.value, True), tuple(details)))
    return tuple(lines)


def _fall(line: DotLine) -> float:
    """The change of a line, so that the largest fall comes first."""
    return line.dots[-1].value - line.dots[0].value


def _dot(who: str, row: Row, is_inverted: bool = False) -> Dot:
    ends = (1 - row.value, 1 - row.ci_high, 1 - row.ci_low) if is_inverted else (row.value, row.ci_low, row.ci_high)
    value, low, high = (end if math.isfinite(end) else ends[0] for end in ends)
    return Dot(cast(Who, who), value, low, high)


def _ends(row: Row) -> str:
    return interval(row.ci_low, row.ci_high, True)


def _recovered(view: RunView) -> DotChart | None:
    """A line for each attack, by what the attacker has, from least to most; of equal attackers the most successful first."""
    found = [f for f in findings_of(view).values() if math.isfinite(_share(f, "asr"))]
    found.sort(key=lambda f: -_share(f, "asr"))
    groups = [DotGroup(title, tuple(_attack(f) for f in found if access_of(f) == access)) for access, title in ACCESS.items()]
    return dot_chart("Images in which the judge sees the concept at the attack's best", groups)


def _attack(finding: Mapping[str, Any]) -> DotLine:
    roles = {"base": "asr_base", "run": "asr", "control": "asr_retrained"}
    dots = [Dot(cast(Who, who), *ends) for who, share in roles.items() if all(map(math.isfinite, ends := _interval(finding, share)))]
    _, low, high = _interval(finding, "asr")
    details = [interval(low, high, True)]
    if control := count_of(finding, "asr_retrained"):
        details.append(f"retrained control: {control}")
    status, badge = badge_of(finding)
    name = plain_name(str(finding.get("attack")))
    return DotLine(f"{name[:1].upper()}{name[1:]}", badge, tuple(dots), count_of(finding, "asr"), tuple(details), status)


def _share(finding: Mapping[str, Any], share: str) -> float:
    return as_float(as_table(finding.get(share)).get("value"))


def _interval(finding: Mapping[str, Any], share: str) -> tuple[float, float, float]:
    ends = as_table(finding.get(share))
    return as_float(ends.get("value")), as_float(ends.get("low")), as_float(ends.get("high"))
