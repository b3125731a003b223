"""What a person reads: tables on standard output, and the words of durations."""

import inspect
import textwrap
from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPED = 160
"""Columns where standard output is no terminal: a file or a pipe has no width to keep to."""


def output() -> Console:
    """Standard output. Text is printed as it is: brackets in a prompt are no markup."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=PIPED)


def say(*lines: str) -> None:
    for line in lines:
        output().print(line, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Prints a table; columns named in `numbers` are right-aligned."""
    made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns))
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers, overflow="fold")
    for row in rows:
        made.add_row(*row)
    output().print(made, "")


def prose(text: str) -> None:
    """Prints a docstring: paragraphs filled to the width, what is indented (formulas) as it stands."""
    for paragraph in paragraphs(text):
        output().print(Padding(Text(paragraph), (0, 0, 1, 0)))


def paragraphs(docstring: str) -> list[str]:
    """A docstring's paragraphs, each on one line; indented ones keep theirs. Sections for programmers (`Raises:`) are left out."""
    parts = [p for p in inspect.cleandoc(docstring).split("\n\n") if not p.startswith(("Raises:", "Args:", "Returns:", "Yields:"))]
    return [p if p.startswith(" ") else " ".join(p.split()) for p in parts]


def first_sentence(docstring: str) -> str:
    return paragraphs(docstring)[0]


def shorten(text: str, width: int = 60) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")
