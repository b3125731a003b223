"""How the command line prints: the width, colours, tables and docstrings."""

import pytest

from expunge.cli.output import console, paragraphs, print_docstring, print_table

LONG = "every word of this sentence takes some room and all of them together take more than two lines at forty columns, and "
LONG += "also more than one line at a hundred and sixty columns, which is the width of a file or a pipe"


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


def test_formulas_are_not_wrapped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("COLUMNS", "40")
    formula = "    L = " + " + ".join(f"term_{i}" for i in range(20))
    print_docstring(f"Words.\n\n{formula}\n\nMore words.")
    assert capsys.readouterr().out.splitlines() == ["Words.", "", formula, "", "More words.", ""]


SHARE = "100% [68%, 100%]"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (60, ["relearn, all weights   100% [68%, 100%]   100% [68%, 100%]"]),
        (40, ["relearn, all          100%          100%", "weights        [68%, 100%]   [68%, 100%]"]),
        (30, ["attack   relearn, all weights", "before   100% [68%, 100%]", "after    100% [68%, 100%]"]),
    ],
)
def test_numbers_are_never_cut(columns: int, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """A narrower table has its intervals below the values; where that is too wide, each row becomes a block."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table("shares", ("attack", "before", "after"), [("relearn, all weights", SHARE, SHARE)], numbers=("before", "after"))
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[0] == "shares"
    assert "\n".join(lines) in "\n".join(shown)


def test_a_table_without_rows(capsys: pytest.CaptureFixture):
    print_table("nothing", ("name", "what it does"), [])
    assert "what it does" in capsys.readouterr().out


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
