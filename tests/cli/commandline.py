"""The real command line, in this process."""

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from unittest import mock

import pytest

from expunge.cli import app
from expunge.errors import ExpungeError

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
"""A small part of the canvas's vocabulary, with fewer images to generate."""

app.get_command = cache(app.get_command)  # the options of every verb are read once, and not for each command line


@dataclass(frozen=True)
class Said:
    """What a command line printed, and its error."""

    code: int
    out: str
    err: str
    raised: ExpungeError | None = None

    @property
    def error(self) -> str:
        """The line that reports the error."""
        *progress, line = self.err.splitlines()
        assert self.code == 2, (self.code, self.err)
        assert line == " ".join(["error:", *str(self.raised).split()]), self.err
        assert not any(text.startswith(("error:", "Traceback")) for text in progress), self.err
        return line

    @property
    def refusal(self) -> ExpungeError:
        """The error, whose fields tests compare."""
        assert self.error
        assert self.raised is not None
        return self.raised


def unpriced(patch: pytest.MonkeyPatch) -> None:
    """Dry runs say all but their costs, which take seconds and are tested elsewhere."""
    patch.setattr("expunge.cli.dry_run.estimate_plan", lambda *_: None)
    patch.setattr("expunge.cli.dry_run._print_costs", lambda _: None)


def say(*arguments: object) -> Said:
    """Runs `expunge ARGUMENTS` in this process."""
    raised: list[ExpungeError] = []

    def run(given: list[str]) -> int:
        try:
            return original(given)
        except ExpungeError as error:
            raised.append(error)
            raise

    original, out, err = app.run, StringIO(), StringIO()
    with mock.patch.object(app, "run", run), redirect_stdout(out), redirect_stderr(err):
        code = app.main([str(a) for a in arguments])
    return Said(code, out.getvalue(), err.getvalue(), next(iter(raised), None))
