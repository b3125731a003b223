"""What the command line prints on standard output: lines, tables, and docstrings as paragraphs.

Text is as wide as the terminal or `COLUMNS`. `NO_COLOR` turns colours off (rich reads both).
"""

import inspect
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED = 160
"""Characters on a line if standard output is no terminal and `COLUMNS` is not set."""

WORD = 12
"""Longer words, such as paths, may be broken to fit into a table."""

GAP = 3
"""Characters between two columns of a table."""

STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "show_edge": False}


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
    """Prints a table. Columns named in `numbers` are aligned to the right and never cut.

    Where the width does not allow that, intervals go to a line of their own below their values; where that is not enough, each row is
    printed as a block with a line for each column.
    """
    screen, lines = console(), [list(zip(columns, row, strict=True)) for row in rows]
    if not _fits(screen.width, columns, lines, numbers):
        lines = [[(name, cell.replace(" [", "\n[") if name in numbers else cell) for name, cell in line] for line in lines]
    if _fits(screen.width, columns, lines, numbers):
        table = Table(title=title or None, title_justify="left", show_header=any(columns), **STYLE)
        for name in columns:
            table.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers, overflow="fold")
        for line in lines:
            table.add_row(*(cell for _, cell in line))
        screen.print(table, "")
        return
    screen.print(Text(title, "table.title"))
    for line in lines:
        block = Table(show_header=False, **STYLE)
        for name, cell in line:
            block.add_row(name, cell.replace("\n[", " ["))
        screen.print(block, "")


def _fits(width: int, columns: Sequence[str], lines: Iterable[Sequence[tuple[str, str]]], numbers: Collection[str]) -> bool:
    """Whether a table needs to cut no number, and to break no word of `WORD` characters or fewer."""

    def least(name: str, cell: str) -> int:
        if name in numbers:
            return max(map(cell_len, cell.splitlines()), default=0)
        return min(WORD, max(map(cell_len, cell.split()), default=0))

    rows = [[(name, name) for name in columns], *lines]
    needed = sum(max(least(*cell) for cell in column) for column in zip(*rows, strict=True))
    return needed + GAP * (len(columns) - 1) <= width


def print_docstring(text: str) -> None:
    """Prints a docstring: paragraphs filled to the width, indented formulas as they are."""
    for paragraph in paragraphs(text):
        console().print(Text(paragraph), "", soft_wrap=paragraph.startswith(" "), sep="\n")


def paragraphs(docstring: str) -> list[str]:
    """A docstring's paragraphs, each on one line; indented ones keep their lines. Sections for programmers (`Raises:`) are left out."""
    parts = [p for p in inspect.cleandoc(docstring).split("\n\n") if not p.startswith(("Raises:", "Args:", "Returns:", "Yields:"))]
    return [p if p.startswith(" ") else " ".join(p.split()) for p in parts]


def first_sentence(docstring: str) -> str:
    """A docstring's first paragraph, which by convention is one sentence."""
    return paragraphs(docstring)[0]
