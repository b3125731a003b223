"""The command that the form prepares is one that the command line takes."""

import shlex

import pytest
import tiny
from cli.commandline import WORDS, say
from raising import raises_error

from expunge.web.request import Request, command_for


def test_only_what_was_asked_for_is_in_the_command():
    assert command_for(Request("uce", "neon", "canvas", steps=50), []) == "expunge unlearn uce --model canvas --target neon"
    full = Request("esd", "top hat", "own/model", ("Pablo's",), "object", 50, 3, "UA>=0.9, relearn<=0.5")
    assert shlex.split(command_for(full, ["relearn"])) == [
        *("expunge", "unlearn", "esd", "--model", "own/model", "--target", "top hat", "--synonym", "Pablo's", "--kind", "object"),
        *("--steps", "50", "--seed", "3", "--accept", "UA>=0.9, relearn<=0.5"),
    ]


def test_the_command_line_takes_it(tmp_path):
    tiny.pipeline().save_pretrained(tmp_path / "a model", safe_serialization=True)
    (tmp_path / "words.toml").write_text(WORDS)
    request = Request("mim-mu", "ring", str(tmp_path / "a model"), ("hoop",), "object", steps=7, seed=2, accept="UA>=0.98")
    words = shlex.split(command_for(request, []))
    said = say(*words[1:], "--dry-run", "--device", "cpu", "--vocabulary", tmp_path / "words.toml")
    assert said.code == 0, said.err
    assert "ring" in said.out


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (Request("mimmu", "neon", "canvas"), "unknown-method"),
        (Request("mim-mu", "noen", "canvas"), "unknown-concept"),
        (Request("mim-mu", "neon", "canvas", accept="UA>0.98"), "broken-criterion"),
    ],
)
def test_a_mistake_is_named(request_: Request, rule: str):
    with raises_error(rule):
        command_for(request_, [])
