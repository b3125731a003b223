"""What the command line prints on standard output: lines, tables, and docstrings as paragraphs.

Text is as wide as the terminal or `COLUMNS`. `NO_COLOR` turns colours off (rich reads both).
"""

import inspect
import os
from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPED = 160
"""Columns if standard output is no terminal and `COLUMNS` is not set."""


def console() -> Console:
    """Standard output. Brackets in a prompt are printed as they are, not read as markup."""
    made = Console(markup=False, highlight=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        made.width = PIPED
    return made


def print_lines(*lines: str) -> None:
    """Prints lines without wrapping them, so that paths and commands can be copied."""
    for line in lines:
        console().print(line, soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Prints a table. Columns named in `numbers` are aligned to the right and never wrapped."""
    made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns))
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers, overflow="fold")
    for row in rows:
        made.add_row(*row)
    console().print(made, "")


def print_docstring(text: str) -> None:
    """Prints a docstring: paragraphs filled to the width, indented formulas as they are."""
    for paragraph in paragraphs(text):
        console().print(Padding(Text(paragraph), (0, 0, 1, 0)))


def paragraphs(docstring: str) -> list[str]:
    """A docstring's paragraphs, each on one line; indented ones keep their lines. Sections for programmers (`Raises:`) are left out."""
    parts = [p for p in inspect.cleandoc(docstring).split("\n\n") if not p.startswith(("Raises:", "Args:", "Returns:", "Yields:"))]
    return [p if p.startswith(" ") else " ".join(p.split()) for p in parts]


def first_sentence(docstring: str) -> str:
    """A docstring's first paragraph, which by convention is one sentence."""
    return paragraphs(docstring)[0]
