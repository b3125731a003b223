"""The progress of a benchmark, a search and an audit, unit by unit, and at once what failed."""

import sys
from collections.abc import Callable, Iterator

from expunge.audits.cells import Event
from expunge.bench.results import Outcome, Trial
from expunge.progress import Progress

DUST = 1e-6
"""Rounding error of a sum of parts that is whole."""


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


def watch_readings(events: Iterator[Event], progress: Progress) -> Iterator[Event]:
    """Shows the readings of an audit in per cent of its price, and reports each failed cell at once."""
    with progress.task("per cent of the audit", 100) as task:
        shown = 0
        for event in events:
            note = event.cell if event.seen is None else f"{event.cell}: seen in {event.seen:.0%} after {event.strength}"
            if (done := int(100 * event.done + DUST)) > shown:
                task.advance(note, done - shown)
                shown = done
            _report(event.cell, event.error)
            yield event


def _report(name: str, error: str) -> None:
    if error:
        print(f"failed: {name}: {error}", file=sys.stderr, flush=True)
