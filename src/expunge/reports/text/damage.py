"""What else is damaged? The answer of one judge, from the retained shares, and from the empty prompt, which needs no judge."""

import math

from expunge.evaluation.recognition import is_recognised
from expunge.evaluation.results import Row
from expunge.reports.comparison import change_of, compare_rows, greatest_fall, is_worse
from expunge.reports.format import listed, number, percentage_points, plural
from expunge.reports.glossary import retain_metrics, title_of
from expunge.reports.tables import Compared
from expunge.reports.text.answers import LITTLE, MUCH, ROOM, Answer, Statement, Status

QUESTION = "What else changed?"
DRIFT = "null_drift"
UNRECOGNISED = "The judge does not recognise what these prompts name in the base model's images. Choose another judge."


def damage(found: Compared) -> Answer:
    """The answer from the main judge's rows of `found`. The worst fall decides."""
    statements, falls, unfit, compared, room = [], [], [], 0, 0.0
    for metric in retain_metrics():
        row, base = found.find(metric)
        if row is None or not math.isfinite(row.value):
            continue
        statements.append(_retained(row, base))
        if base is None:
            continue
        if not is_recognised(base):
            unfit.append(metric)
            continue
        compared += 1
        if is_worse(base, row) and (change := change_of(base, row)):
            falls.append((-change.value, metric))
        elif compare_rows(base, row) == "unclear":
            room = max(room, greatest_fall(base, row))
    drift = _drift(found)
    supports = (*statements, *([drift] if drift else []))
    remark = f"Not judged: {listed(unfit)}. {UNRECOGNISED}" if unfit else ""
    if falls and max(falls)[0] >= LITTLE:
        worst, metric = max(falls)
        what = f"{metric} fell by {percentage_points(worst)}"
        return Answer(QUESTION, "bad", "Damage shown", what, supports, remark, f"yes, {what}", _fell(found, metric, worst))
    if drift and drift.row and drift.status == "bad":
        what = _drifted(drift.row)
        return Answer(QUESTION, "bad", "Damage shown", what, supports, remark, f"yes, {what}", drift.text)
    if not compared:
        badge, what = ("Judge unfit", "no metric is judged") if unfit else ("Not measured", "nothing to compare")
        remark = remark or "No retain metric could be compared with the base model, so damage is unknown."
        brief = "unknown, the judge is unfit" if unfit else "not measured"
        return Answer(QUESTION, "unknown", badge, what, supports, remark, brief, remark, has_basis=False)
    if falls:
        worst, metric = max(falls)
        what = f"{metric} fell by {percentage_points(worst)}"
        return Answer(QUESTION, "fair", "Little damage", what, supports, remark, f"little, {what}", _fell(found, metric, worst))
    groups = f"any of {plural(compared, 'group')}" if compared > 1 else "the only group"
    sentence = f"No fall is shown in {groups} of other prompts; the intervals leave room for a fall of {percentage_points(room)}."
    measured = f"no fall shown in {plural(compared, 'metric')}"
    if room >= ROOM:
        more = "More images narrow the intervals, for example `expunge eval RUN --seeds 4`."
        summary = f"{measured}, up to {percentage_points(room)} possible"
        brief = f"unknown, a fall of {percentage_points(room)} is possible"
        return Answer(QUESTION, "unknown", "Cannot tell", summary, supports, " ".join(filter(None, (remark, more))), brief, sentence)
    if drift and drift.row and drift.status == "fair":
        what = _drifted(drift.row)
        return Answer(QUESTION, "fair", "Little damage", what, supports, remark, f"little, {what}", drift.text)
    if unfit:
        summary = f"{measured}, {plural(len(unfit), 'metric')} not judged"
        return Answer(QUESTION, "unknown", "Cannot tell", summary, supports, remark, f"unknown, {summary}", f"{sentence} {remark}")
    summary = f"{measured}, up to {percentage_points(room)} possible"
    return Answer(QUESTION, "good", "No damage shown", summary, supports, remark, "none found", sentence)


def _fell(found: Compared, metric: str, by: float) -> str:
    """The sentence of the metric that fell most."""
    row, base = found.find(metric)
    if row is None or base is None:
        return ""
    return (
        f"The judge sees what the prompt names in {number(row.value, True)} of the images of {title_of(metric).lower()}, against "
        f"{number(base.value, True)} before unlearning: a fall of {percentage_points(by)}."
    )


def _retained(row: Row, base: Row | None) -> Statement:
    lead, text = title_of(row.metric), f"In {number(row.value, True)} of the images the judge sees what the prompt names"
    if base is None:
        text += ". The base model was not measured, so damage is unknown."
        return Statement("unknown", lead, text, row, base)
    text = f"{text} (base model: {number(base.value, True)})."
    if not is_recognised(base):
        return Statement("unknown", lead, f"{text} This is not judged.", row, base)
    change = abs(found.value) if (found := change_of(base, row)) else 0.0
    match compare_rows(base, row):
        case "better":
            return Statement("good", lead, f"{text} The share rose by {percentage_points(change)}.", row, base)
        case "worse":
            text += f" The share fell by {percentage_points(change)}."
            return Statement("fair" if change < LITTLE else "bad", lead, text, row, base)
        case _:
            room = greatest_fall(base, row)
            text += f" No change is shown; a fall of up to {percentage_points(room)} is possible."
            return Statement("good" if room < ROOM else "unknown", lead, text, row, base)


def _drift(found: Compared) -> Statement | None:
    """How far the empty prompt's prediction moved. Guidance adds it to every image, so it may hurt where no judge was asked."""
    row, base = found.find(DRIFT)
    if row is None or not math.isfinite(row.value):
        return None
    text = f"Without a prompt the prediction changes by {number(row.value, True)} of its size."
    status: Status = "bad" if row.ci_low > MUCH else "fair" if row.ci_low > LITTLE else "good"
    return Statement(status, title_of(DRIFT), text, row, base)


def _drifted(row: Row) -> str:
    return f"the empty prompt's prediction changes by {number(row.value, True)}"
