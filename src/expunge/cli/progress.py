"""The progress of a benchmark and of a search, and at once what failed."""

import sys
from collections.abc import Callable, Iterator

from expunge.audits.cells import Event
from expunge.bench.results import Outcome, Trial
from expunge.progress import Progress


def watch_units(outcomes: Iterator[Outcome], total: int, progress: Progress) -> Iterator[Outcome]:
    """Shows units of a benchmark as they end, and reports each failure at once."""
    with progress.task("units", total) as task:
        for outcome in outcomes:
            task.advance(f"{outcome.name} {outcome.status}")
            _report(outcome.name, outcome.error)
            yield outcome


def watch_trials(
    events: Iterator[Outcome | Trial], label: str, total: int, describe: Callable[[Trial], str], progress: Progress
) -> Iterator[Outcome | Trial]:
    """Shows the trials of a search as they end, and reports each failed unit at once."""
    with progress.task(label, total) as task:
        for event in events:
            if isinstance(event, Outcome):
                _report(event.name, event.error)
            else:
                task.advance(describe(event))
            yield event


def report_failures(events: Iterator[Event]) -> Iterator[Event]:
    """Reports each failed cell of an audit at once."""
    for event in events:
        _report(event.cell, event.error)
        yield event


def _report(name: str, error: str) -> None:
    if error:
        print(f"failed: {name}: {error}", file=sys.stderr, flush=True)
