"""Commands in the documentation have the verbs and options that the command line has."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from expunge.cli.app import VERBS, app
from expunge.cli.unlearn import put_method_first

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
PLACEHOLDER = re.compile(r"^[A-Z]{3,}$|\.\.\.|…")
"""Words of a command that stand for a name."""


def commands(page: str) -> list[list[str]]:
    """Every whole command `expunge ...` in the page's blocks of shell, in words."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("expunge ")]


@cache
def options(verb: str, method: str = "") -> frozenset[str]:
    """The names of a command's options."""
    command = get_command(app).commands[verb]
    if method:
        command = command.get_command(None, method)
    return frozenset(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))


def unknown(words: list[str]) -> list[str]:
    verb, *rest = words
    if verb not in VERBS:
        return [] if verb.startswith("-") else [verb]
    method = ""
    if verb == "unlearn":
        method = put_method_first(rest)[0]
        if PLACEHOLDER.search(method) or ":" in method:
            return []
    if verb == "cache":
        return []  # its own verbs
    flags = {word.partition("=")[0] for word in rest if word.startswith("--") and len(word) > 2}
    return sorted(flags - options(verb, method) - {"--help"})


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_exists_with_its_options(page: str):
    assert {" ".join(words): missing for words in commands(page) if (missing := unknown(words))} == {}


def test_an_unknown_option_is_seen():
    assert unknown(shlex.split("eval RUN --judges clip")) == ["--judges"]
    assert unknown(shlex.split("unlearn esd --target x --etaa 1")) == ["--etaa"]
    assert unknown(["evaluate", "RUN"]) == ["evaluate"]
