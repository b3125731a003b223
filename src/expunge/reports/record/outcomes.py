"""Whether a run meets the conditions of its acceptance criterion."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from expunge.evaluation.criterion import Condition
from expunge.evaluation.metrics import describe
from expunge.evaluation.recognition import is_recognised
from expunge.evaluation.results import Row
from expunge.reports.comparison import change_of
from expunge.storage.json_files import as_float, as_table, as_tables, as_text, find_file, read_object


@dataclass(frozen=True)
class Outcome:
    """What one condition came to, for one concept and by one judge."""

    condition: str
    concept: str
    judge: str
    is_met: bool
    value: float | None
    """The number on the left: a metric, its change from the base model, or an attack success rate."""
    low: float | None
    high: float | None
    reference: float
    """The base model's or the control's value that the condition adds to; 0 if it has none."""
    n: int
    """Images behind the value."""
    note: str = ""
    """Why a condition is not met though no number fails it."""

    @property
    def table(self) -> dict[str, Any]:
        return asdict(self)


def outcomes(conditions: tuple[Condition, ...], folder: Path, rows: tuple[Row, ...], concepts: list[str]) -> list[Outcome]:
    """The outcome of each condition for each concept, by each judge that measured it. What was not measured is not met."""
    audits, found = read_audits(folder), []
    for condition in conditions:
        for concept in concepts:
            of = _of_attack(condition, concept, audits) if condition.is_attack else _of_metric(condition, concept, rows)
            found += list(of) or [_unmeasured(condition, concept)]
    return found


def read_audits(folder: Path) -> list[dict[str, Any]]:
    """The `audit.json` of each audit in a run's folder, in the order of their names.

    Raises:
        ExpungeError: a file is broken, or leads out of the folder.
    """
    names = sorted(f"{file.parent.name}/audit.json" for file in folder.glob("audit*/audit.json"))
    return [read_object(file) for name in names if (file := find_file(folder, name))]


def _unmeasured(condition: Condition, concept: str, judge: str = "", note: str = "not measured") -> Outcome:
    return Outcome(condition.text, concept, judge, False, None, None, None, 0.0, 0, note)


def _of_metric(condition: Condition, concept: str, rows: tuple[Row, ...]) -> Iterator[Outcome]:
    mine = [r for r in rows if r.metric == condition.what and r.attack == "none" and r.concept in (concept, "")]
    bases = {r.judge: r for r in mine if r.run == "base"}
    for row in (r for r in mine if r.run != "base" and math.isfinite(r.value)):
        base = bases.get(row.judge)
        if base is not None and not is_recognised(base):
            yield _unmeasured(condition, concept, row.judge, "the judge does not recognise the base model's images")
        elif condition.reference != "base":
            yield _outcome(condition, concept, row.judge, (row.value, row.ci_low, row.ci_high), 0.0, row.n)
        elif describe(row.metric).is_share and (change := change_of(base, row)):
            yield _outcome(condition, concept, row.judge, change, 0.0, row.n)
        elif base is not None:
            yield _outcome(condition, concept, row.judge, (row.value, row.ci_low, row.ci_high), base.value, row.n)
        else:
            yield _unmeasured(condition, concept, row.judge, "the base model was not measured")


def _of_attack(condition: Condition, concept: str, audits: list[dict[str, Any]]) -> Iterator[Outcome]:
    for finding in (f for audit in audits for f in as_tables(audit.get("findings"))):
        if finding.get("attack") != condition.what or finding.get("concept") != concept:
            continue
        judge = as_text(finding.get("judge")) or ""
        best = as_table(finding.get("best_unlearned"))
        reference = _reference(condition, finding)
        if reference is None:
            yield _unmeasured(condition, concept, judge, f"the {condition.reference} model was not attacked")
        elif not best:
            yield _unmeasured(condition, concept, judge)
        else:
            numbers = tuple(as_float(best.get(key)) for key in ("value", "low", "high"))
            yield _outcome(condition, concept, judge, numbers, reference, int(as_float(best.get("pictures"))))


def _reference(condition: Condition, finding: Mapping[str, Any]) -> float | None:
    """The best attack success rate of the model that the condition refers to; None if it was not attacked."""
    if not condition.reference:
        return 0.0
    of = as_table(finding.get("best_retrained" if condition.reference == "control" else "best_base"))
    return as_float(of.get("value")) if of else None


def _outcome(condition: Condition, concept: str, judge: str, numbers: Any, reference: float, n: int) -> Outcome:
    value, low, high = numbers
    return Outcome(condition.text, concept, judge, condition.holds(value, reference), value, low, high, reference, n)
