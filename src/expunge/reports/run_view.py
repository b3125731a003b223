"""What a page shows of a run: all of it, or the part that belongs to one of its concepts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expunge.audits.results import Audit
from expunge.audits.saved import read_audit
from expunge.evaluation.folder import Evaluation, read_evaluation
from expunge.runs.folder import Card
from expunge.runs.run import Run
from expunge.storage.json_files import find_file, read_object


@dataclass(frozen=True)
class AuditView:
    """An audit of a run as a page shows it."""

    name: str
    """Of its folder."""
    table: Mapping[str, Any]
    """The content of `audit.json`."""
    audit: Audit | None
    """With every reading; None of older audits."""


@dataclass(frozen=True)
class RunView:
    """A run as a page shows it."""

    run: Run
    card: Card
    evaluation: Evaluation | None
    """None if the run was not evaluated."""
    beside: tuple[str, ...] = ()
    """The other concepts of a run that removed several, if one of them is shown."""
    part: int = 0
    """Which of several concepts is shown."""
    audits: tuple[AuditView, ...] = ()

    @property
    def folder(self) -> Path:
        return self.run.folder


def read_view(folder: Path) -> RunView:
    """Reads a run's folder. The run need not be finished or evaluated.

    Raises:
        ExpungeError: no `card.json`; a broken file; a link out of the folder.
    """
    run = Run(folder)
    card = run.unchecked_card
    names = sorted(f.parent.name for f in folder.glob("audit*/audit.json"))
    audits = [AuditView(n, read_object(f), read_audit(folder / n, card)) for n in names if (f := find_file(folder, f"{n}/audit.json"))]
    return RunView(run, card, read_evaluation(folder), audits=tuple(audits))


def with_audit(view: RunView, audit: Audit) -> RunView:
    """The run with this audit alone."""
    table = {"findings": audit.table, "failures": [asdict(f) for f in audit.failures]}
    return replace(view, audits=(AuditView(audit.folder.name, table, audit),))


def split_by_concept(view: RunView) -> list[RunView]:
    """A run of several concepts as one view for each, with its rows and images; any other run as it is.

    Rows about the run as a whole, such as the change of the weights, are in every view.
    """
    return [_part(view, number) for number in range(len(view.card.targets))] or [view]


def _part(view: RunView, number: int) -> RunView:
    target, evaluation = view.card.targets[number].target, view.evaluation
    others = tuple(t.target for at, t in enumerate(view.card.targets) if at != number)
    if evaluation:
        stages = {stage.id for stage in view.card.stages}
        rows = tuple(r for r in evaluation.rows if r.run not in stages and r.concept in (target, view.card.target, ""))
        pairs = tuple(p for p in evaluation.pairs if p.concept in (target, ""))
        evaluation = replace(evaluation, rows=rows, pairs=pairs)
    return replace(view, card=view.card.of_target(number), evaluation=evaluation, beside=others, part=number)
