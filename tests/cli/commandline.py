"""The real command line, in this process."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from expunge.cli.app import main

WORDS = """
[style]
alone = "{target} style"
together = "a {partner} in {target} style"
partner = "object"
members = [{name = "neon", synonyms = ["glow"], family = "lines"}, {name = "outline", family = "lines"}, "dots"]

[object]
alone = "a {target}"
together = "a {target} in {partner} style"
partner = "style"
members = ["ring", "square"]
"""
"""A corner of the canvas's world, of which there are fewer pictures to make."""


@dataclass(frozen=True)
class Said:
    """What a command line answered."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        *progress, line = self.err.splitlines()
        assert self.code == 2, (self.code, self.err)
        assert line.startswith("error: "), self.err
        assert not any(text.startswith(("error:", "Traceback")) for text in progress), self.err
        return line


def say(*arguments: object) -> Said:
    """Runs `expunge ARGUMENTS` in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return Said(code, out.getvalue(), err.getvalue())
