"""Is the concept removed? The answer of one judge, from UA with the concept's name and with a synonym."""

import math
from collections.abc import Sequence

from expunge.evaluation.recognition import is_recognised
from expunge.evaluation.results import Row
from expunge.reports.comparison import compare_rows
from expunge.reports.format import listed, number
from expunge.reports.glossary import title_of
from expunge.reports.tables import Compared
from expunge.reports.text.answers import Answer, Statement, Status, level
from expunge.runs.folder import Card

QUESTION = "Is it gone?"
BADGES: dict[Status, str] = {"good": "Removed", "fair": "Partly removed", "bad": "Not removed", "unknown": "Cannot tell"}
BRIEFS: dict[str, str] = {
    "Removed": "yes", "Partly removed": "in part", "Removed by name only": "its name only", "Not removed": "no",
    "Cannot tell": "unknown, no effect shown",
}  # fmt: skip
UNRECOGNISED = "The judge does not recognise the concept in the base model's images. Choose another judge."


def removal(card: Card, found: Compared) -> Answer:
    """The answer from the main judge's rows of `found`."""
    concept = f"“{card.target}”" if card.target else "the concept"
    own, own_base = found.find("UA")
    other, other_base = found.find("UA_syn")
    if own is None or not math.isfinite(own.value):
        remark = "UA was not measured, so the effect of unlearning is unknown."
        return Answer(QUESTION, "unknown", "Not measured", "no UA", (), remark, "not measured", remark, has_basis=False)
    summary = f"UA {number(own.value, True)}" + (f", with a synonym {number(other.value, True)}" if other is not None else "")
    first = _statement(own, own_base, concept)
    if own_base is not None and not is_recognised(own_base):
        summary += f"; base model {number(own_base.value, True)}"
        brief = "unknown, the judge is unfit"
        return Answer(QUESTION, "unknown", "Judge unfit", summary, (first,), UNRECOGNISED, brief, UNRECOGNISED, has_basis=False)
    statements, status, badge = [first], first.status, BADGES[first.status]
    if other is not None and math.isfinite(other.value):
        second = _statement(other, other_base, concept)
        statements.append(second)
        if status == "good" and second.status in ("fair", "bad"):
            status, badge = "fair", "Removed by name only" if second.status == "bad" else "Partly removed"
        remark = _synonyms(card.synonyms)
    else:
        remark = "Synonyms were not measured, so it is unknown whether the method removed the concept or only its name."
    sentence = _sentence(own, own_base, other, concept)
    return Answer(QUESTION, status, badge, summary, tuple(statements), remark, BRIEFS[badge], sentence, has_basis=own_base is not None)


def _sentence(own: Row, base: Row | None, other: Row | None, concept: str) -> str:
    text = f"The judge sees {concept} in {number(1 - own.value, True)} of the images whose prompts name it"
    text += f", against {number(1 - base.value, True)} before unlearning" if base else "; the base model was not measured"
    return f"{text} (prompts with a synonym: {number(1 - other.value, True)})." if other else f"{text}."


def _synonyms(given: Sequence[str]) -> str:
    if not given:
        return "The method was given no synonym, so UA_syn shows whether it removed the concept or only its name."
    noun = "synonym" if len(given) == 1 else "synonyms"
    names = listed(f"“{s}”" for s in given)
    return f"The method was also given the {noun} {names}, so UA_syn does not show what happens with a synonym that it was not given."


def _statement(row: Row, base: Row | None, concept: str) -> Statement:
    lead, text = title_of(row.metric), f"In {number(row.value, True)} of the images the judge does not see {concept}"
    if base is None:
        text += ". The base model was not measured, so the effect of unlearning is unknown."
        return Statement("unknown", lead, text, row, base)
    text += f" (base model: {number(base.value, True)})."
    if not is_recognised(base):
        return Statement("unknown", lead, f"{text} This is not judged.", row, base)
    match compare_rows(base, row):
        case "better":
            return Statement(level(row), lead, text, row, base)
        case "worse":
            return Statement("bad", lead, f"{text} The judge sees the concept more often than before unlearning.", row, base)
        case _:
            return Statement("unknown", lead, f"{text} No effect of unlearning is shown.", row, base)
