"""How far a long task is, on standard error: a bar with the time left on a terminal, elsewhere a line now and then.

Imports no torch, and rich only when a bar is shown.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Protocol, Self, TypeVar

T = TypeVar("T")

IN_CELL = 0.25
"""Least seconds between two changes of a bar in a notebook."""


class HasLoss(Protocol):
    """A training step."""

    @property
    def loss(self) -> float: ...


S = TypeVar("S", bound=HasLoss)


class Task(Protocol):
    """A task whose progress is shown."""

    def advance(self, note: str = "", by: int = 1) -> None:
        """Says that `by` more units are done; `note` is shown beside."""


@dataclass(frozen=True)
class Progress:
    """Shows tasks that take long. `Silent` shows none.

    A terminal gets a bar with the time left, in colour unless `NO_COLOR` is set, as wide as the terminal or `COLUMNS`. A notebook gets a
    bar below its cell. A file or a pipe gets a line now and then.
    """

    title: str = ""
    """Stands before the title of every task."""
    delay: float = 2.0
    """Seconds after which a task is shown. Larger hides more short ones."""
    every: float = 10.0
    """Least seconds between two lines where there is no terminal."""

    @classmethod
    def default(cls) -> "Progress":
        """Shown, unless `EXPUNGE_PROGRESS` is `off`."""
        return Silent() if os.environ.get("EXPUNGE_PROGRESS") == "off" else cls()

    def within(self, title: str) -> Self:
        """The same for parts of a larger task, such as "stage 2 of 3", whose title then stands before theirs."""
        return replace(self, title=f"{self.title}{title}: ")

    @contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Task]:
        """Shows a task for as long as the context lasts.

        Args:
            title: names the units: "images of the concept".
            total: units in all.
            done: units that an earlier attempt has done.
        """
        shown = f"{self.title}{title}"
        task: _Bar | _Lines
        if sys.stderr.isatty():
            task = _Bar(shown, total, done, self.delay)
        elif _in_notebook():
            task = _CellBar(shown, total, done, self.delay, IN_CELL)
        else:
            task = _Lines(shown, total, done, self.delay, self.every)
        try:
            yield task
        finally:
            task.close()

    def track(self, items: Sequence[T], title: str) -> Iterator[T]:
        """Yields the items and shows how many of them the caller is done with."""
        with self.task(title, len(items)) as task:
            for item in items:
                yield item
                task.advance()

    def steps(self, steps: Iterator[S], done: int, total: int) -> Iterator[S]:
        """Yields training steps and shows their number and loss; `done` were taken before."""
        with self.task("steps", total, done) as task:
            for step in steps:
                task.advance(f"loss {step.loss:.4g}")
                yield step


class Silent(Progress):
    """Shows nothing."""

    @contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Task]:
        yield _Unseen()


class _Unseen:
    def advance(self, note: str = "", by: int = 1) -> None:
        pass


class _Lines:
    """A line when enough time has passed since the last one, and one at the end."""

    def __init__(self, title: str, total: int, done: int, delay: float, every: float):
        self.title, self.total, self.done, self.delay, self.every = title, total, done, delay, every
        self._first = done
        self._began = self._printed = time.monotonic()

    def advance(self, note: str = "", by: int = 1) -> None:
        self.done += by
        now = time.monotonic()
        took, is_done = now - self._began, self.done >= self.total
        if took < self.delay or (not is_done and now - self._printed < self.every):
            return
        self._printed = now
        left = took / (self.done - self._first) * (self.total - self.done)
        pace = f"in {duration(took)}" if is_done else f"{duration(left)} left"
        self.show(f"{self.title}: {self.done} of {self.total}, {pace}{note and f', {note}'}")

    def show(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _CellBar(_Lines):
    """A bar below a notebook's cell. It goes when the task ends, so that a saved notebook keeps results alone."""

    _display: Any = None

    def show(self, line: str) -> None:
        from IPython.display import HTML, display

        bar = HTML(f'<progress value="{self.done}" max="{self.total}"></progress> <small>{escape(line)}</small>')
        if self._display is None:
            self._display = display(bar, display_id=True)
        else:
            self._display.update(bar)

    def close(self) -> None:
        from IPython.display import HTML

        if self._display is not None:
            self._display.update(HTML(""))


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this, which shows HTML. A terminal's IPython has none."""
    shell = sys.modules.get("IPython")
    return getattr(shell.get_ipython() if shell else None, "kernel", None) is not None


class _Bar:
    """A bar, from `delay` seconds on."""

    def __init__(self, title: str, total: int, done: int, delay: float):
        self.title, self.total, self.done, self.note = title, total, done, ""
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._is_closed = False
        self._row: Any = None
        # A thread of its own: the first unit alone may take minutes.
        self._timer = threading.Timer(delay, self._show)
        self._timer.daemon = True
        self._timer.start()

    def advance(self, note: str = "", by: int = 1) -> None:
        with self._lock:
            self.done, self.note = self.done + by, note
            if self._row is not None:
                _SCREEN.update(self._row, self.done, note)

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._is_closed = True
            if self._row is not None:
                _SCREEN.remove(self._row)

    def _show(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._row = _SCREEN.add(self.title, self.total, self.done, self.note, self._began)


class _Screen:
    """The bars of all tasks that are under way. A terminal has room for one live display, so tasks within tasks share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Any = None

    def add(self, title: str, total: int, done: int, note: str, began: float) -> Any:
        with self._lock:
            if self._bars is None:
                self._bars = _new_bars()
                self._bars.start()
            row = self._bars.add_task(title, total=total, completed=done, note=note)
            [task] = [task for task in self._bars.tasks if task.id == row]
            task.start_time = began  # the time before it was shown counts too
            return row

    def update(self, row: Any, done: int, note: str) -> None:
        self._bars.update(row, completed=done, note=note)

    def remove(self, row: Any) -> None:
        """Ends a bar. The last one stays on the screen."""
        with self._lock:
            if len(self._bars.task_ids) > 1:
                self._bars.remove_task(row)
            else:
                self._bars.stop()
                self._bars = None


_SCREEN = _Screen()


def _new_bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    class Shortened(TextColumn):
        """Text that gives way where the terminal is narrow, so that the numbers stay whole."""

        def __init__(self, format: str):
            super().__init__(format, markup=False, table_column=Column())  # brackets in a prompt are no markup

        def render(self, task: Any) -> Any:
            shown = super().render(task)
            shown.no_wrap, shown.overflow = True, "ellipsis"
            return shown

    whole = Column(no_wrap=True)
    columns = (
        Shortened("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("left", table_column=whole),
        TimeRemainingColumn(table_column=whole),
        Shortened("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)


def duration(seconds: float | None) -> str:
    """Seconds to a tenth; a minute or more in minutes, an hour or more in hours.

    >>> duration(0.42), duration(75), duration(7320), duration(None)
    ('0.4 s', '1 min 15 s', '2 h 2 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
