"""How the command line prints: the width, colours, docstrings and durations."""

import pytest

from expunge.cli.output import console, paragraphs, print_docstring, print_table
from expunge.progress import duration

LONG = "every word of this sentence takes some room and all of them together take more than two lines at forty columns"


@pytest.mark.parametrize(("columns", "width"), [("40", 40), ("not a number", 160), (None, 160)])
def test_output_is_as_wide_as_columns(columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Without a terminal and without COLUMNS, 160."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert console().width == width
    print_table("a title", ("name", "what it does"), [("one", LONG), ("two", LONG)])
    print_docstring(LONG)
    assert width - 12 < max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not console().no_color
    monkeypatch.setenv("NO_COLOR", "1")
    assert console().no_color


def test_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture):
    print_table("", ("prompt",), [("[bold]a ring[/bold]",)])
    assert "[bold]a ring[/bold]" in capsys.readouterr().out


def test_paragraphs_are_filled_and_formulas_kept():
    text = """First
        line.

            x = 1
            y = 2

        Raises:
            ValueError: never.
        """
    assert paragraphs(text) == ["First line.", "    x = 1\n    y = 2"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (5400, "1 h 30 min")]
)
def test_durations(seconds: float, words: str):
    assert duration(seconds) == words
