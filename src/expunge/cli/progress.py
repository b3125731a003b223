"""How far a long step is, on standard error: a bar with the time left on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from expunge.audits.cells import Event
from expunge.bench.results import Outcome, Trial
from expunge.reports.format import duration
from expunge.training.steps import Step

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""

DUST = 1e-6
"""Rounding error of a sum of parts that is whole."""

Advance = Callable[[str], None]
"""One more is done; the text says something of it."""


@contextmanager
def _bar(description: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        yield lambda note: progress.update(task, advance=1, note=note)


@contextmanager
def _lines(description: str, total: int, done: int) -> Iterator[Advance]:
    first, began = done, time.monotonic()
    printed = began

    def advance(note: str) -> None:
        nonlocal done, printed
        done, now = done + 1, time.monotonic()
        if done < total and now - printed < EVERY:
            return
        printed = now
        took = now - began
        pace = f"in {duration(took)}" if done == total else f"{duration(took / (done - first) * (total - done))} left"
        print(f"{description}: {done} of {total}, {pace}{note and f', {note}'}", file=sys.stderr, flush=True)

    yield advance


def _task(description: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
    return (_bar if sys.stderr.isatty() else _lines)(description, total, done)


def track(items: Sequence[int], description: str) -> Iterator[int]:
    """Passes `items` on and shows how many are dealt with."""
    with _task(description, len(items)) as advance:
        for item in items:
            yield item
            advance("")


def watch_steps(steps: Iterator[Step], done: int, total: int) -> Iterator[Step]:
    """Shows training steps as they pass, with the loss; a resumed run starts where it stood."""
    with _task("steps", total, done) as advance:
        for step in steps:
            advance(f"loss {step.loss:.4g}")
            yield step


def watch_units(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Shows units of a benchmark as they end, and says at once of each that failed."""
    with _task("units", total) as advance:
        for outcome in outcomes:
            advance(f"{outcome.name} {outcome.status}")
            _failure(outcome)
            yield outcome


def watch_trials(events: Iterator[Outcome | Trial], label: str, total: int, told: Callable[[Trial], str]) -> Iterator[Outcome | Trial]:
    """Shows the trials of a search as they end, and says at once of each unit that failed."""
    with _task(label, total) as advance:
        for event in events:
            if isinstance(event, Outcome):
                _failure(event)
            else:
                advance(told(event))
            yield event


def watch_readings(events: Iterator[Event]) -> Iterator[Event]:
    """Shows the readings of an audit as they are taken, in per cent of its price, and says at once of each cell that failed."""
    with _task("per cent of the audit", 100) as advance:
        shown = 0
        for event in events:
            note = event.cell if event.seen is None else f"{event.cell}: seen in {event.seen:.0%} after {event.strength}"
            while shown < int(100 * event.done + DUST):
                shown += 1
                advance(note)
            _failed(event.cell, event.error)
            yield event


def _failure(outcome: Outcome) -> None:
    _failed(outcome.name, outcome.error)


def _failed(name: str, error: str) -> None:
    if error:
        print(f"failed: {name}: {error}", file=sys.stderr, flush=True)
