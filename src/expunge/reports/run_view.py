"""What a page shows of a run: all of it, or the part that belongs to one of its concepts."""

from dataclasses import dataclass, replace
from pathlib import Path

from expunge.evaluation.folder import Evaluation, read_evaluation
from expunge.runs.folder import Card
from expunge.runs.run import Run


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

    @property
    def folder(self) -> Path:
        return self.run.folder


def read_view(folder: Path) -> RunView:
    """Reads a run's folder. The run need not be finished or evaluated.

    Raises:
        ExpungeError: no `card.json`; a broken file; a link out of the folder.
    """
    run = Run(folder)
    return RunView(run, run.unchecked_card, read_evaluation(folder))


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
