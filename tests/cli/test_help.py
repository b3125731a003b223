"""What help prints, and that it needs nothing heavy."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cli.commandline import say

import expunge
from expunge.cli.settings_help import Setting, settings_of
from expunge.cli.unlearn import put_method_first
from expunge.cli.unlearn_options import COMMON, SWITCHES
from expunge.methods import METHODS
from expunge.methods.base import Objective, Training

SOURCE = Path(__file__).parents[2] / "src"
VERBS = (
    "demo",
    "ls",
    "show",
    "unlearn",
    "sample",
    "eval",
    "meter",
    "audit",
    "report",
    "studio",
    "verify",
    "merge",
    "push",
    "purge",
    "compose",
    "adopt",
    "bench",
    "cache",
)


def program(*arguments: str) -> subprocess.CompletedProcess:
    """`expunge ARGUMENTS` in a process of its own."""
    code = "from expunge.cli import main; raise SystemExit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)})


HEAVY = ("torch", "scipy", "diffusers", "transformers", "matplotlib")


STATIC = (
    ("--help",),
    ("unlearn", "--help"),
    ("unlearn", "mim-mu", "--help"),
    *(("ls", what) for what in ("methods", "presets", "attacks", "metrics", "concepts", "scopes", "runs", "judges")),
    *(("show", name) for name in ("mim-mu", "relearn", "UA", "resistant", "xattn", "training", "meter", "neon", "vocabulary")),
)


def test_static_text_needs_nothing_heavy():
    """In one process: what a command imports is still there after the next."""
    code = f"""
import sys
from expunge.cli import main
for arguments in {STATIC}:
    code = main(list(arguments))
    print("DONE", code, *arguments, *set({HEAVY}) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)})
    found = [line for line in done.stdout.splitlines() if line.startswith("DONE")]
    assert found == [" ".join(("DONE 0", *arguments)) for arguments in STATIC], done.stderr  # the exit code, and none of those modules


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_is_as_wide_as_columns_and_at_most_100(columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    widest = max(len(line) for verb in ("audit", "bench", "eval") for line in say(verb, "--help").out.splitlines())
    assert min(columns, 100) - 20 < widest <= min(columns, 100)


def test_help_lists_every_verb_with_its_whole_first_sentence():
    lines = say("--help").out.splitlines()
    commands = [line for line in lines[lines.index("Commands:") + 1 :] if line.strip()]
    assert [line.split()[0] for line in commands] == list(VERBS)
    assert [line for line in commands if line.endswith("...")] == []


def test_no_arguments_are_answered_with_help():
    assert say() == say("--help")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str):
    said = say(verb, "--help")
    assert said.code == 0
    assert f"Usage: expunge {verb}" in said.out


def test_a_mistake_is_one_line_in_a_process_too():
    done = program("unlern")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line == "error: 'unlern' is not a command of expunge. Try 'unlearn'; `expunge --help` lists all."


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("expunge un", ["unlearn"]), ("expunge unlearn mim", ["mim-mu", "mim-pid"]), ("expunge audit --bud", ["--budget"])],
)
def test_a_shell_completes_commands_methods_and_options(typed: str, expected: list[str]):
    code = "from expunge.cli import main; raise SystemExit(main([]))"
    asked = {"_EXPUNGE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE), **asked})
    assert (done.stdout.split(), done.returncode) == (expected, 0)


def test_the_version_is_printed():
    said = say("--version")
    assert (said.code, said.out) == (0, f"{expunge.__version__}\n")


@pytest.mark.parametrize("name", METHODS)
def test_each_setting_of_a_method_is_a_flag_with_its_text_and_default(name: str):
    cls = METHODS[name]
    settings = settings_of(cls) + (settings_of(Training, cls.training) if issubclass(cls, Objective) else [])
    shown = " ".join(say("unlearn", name, "--help").out.split())
    assert settings
    for setting in settings:
        assert setting.flag in shown
        assert setting.about, f"{name}.{setting.name} has no text beneath it"
        # Words may be broken at hyphens, so blanks are left out of the comparison.
        assert f"{setting.about}[".replace(" ", "") in shown.replace(" ", "")
        assert f"default: {setting.shown_default}]" in shown
    assert "Source: arXiv" in shown or "Source: OpenReview" in shown


def test_usage_shows_where_the_method_stands():
    assert say("unlearn", "--help").out.splitlines()[0] == "Usage: expunge unlearn METHOD [OPTIONS]"
    assert say("unlearn", "esd", "--help").out.splitlines()[0] == "Usage: expunge unlearn esd [OPTIONS]"


def test_formulas_keep_their_line():
    formula = next(line for line in METHODS["uce"].__doc__.splitlines() if "J(W')" in line).strip()
    assert formula in say("unlearn", "uce", "--help").out


def test_a_closed_form_has_no_training():
    assert "--steps" not in say("unlearn", "uce", "--help").out


def test_a_method_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All kinds of fields, one without a default, one inherited; the class is found by import."""
    (tmp_path / "outside.py").write_text(
        textwrap.dedent('''
        from dataclasses import dataclass
        from typing import Annotated, Literal
        from annotated_types import Gt, Le
        from expunge.methods.esd import ESD

        @dataclass(frozen=True, kw_only=True)
        class Mine(ESD):
            """Mine."""
            strength: Annotated[float, Gt(0), Le(2)]
            """How
            strong."""
            how: Literal["a", "b"] = "a"
            count: int | None = None
            """How many."""
            loud: bool = False

        @dataclass(frozen=True)
        class Clash(ESD):
            seed: int = 0
        ''')
    )
    monkeypatch.syspath_prepend(tmp_path)
    from outside import Mine

    assert settings_of(Mine)[8:] == [  # after ESD's own and the keyword-only ones that it shares
        Setting("strength", "NUMBER", "above 0, at most 2", settings_of(Mine)[8].default, "How strong."),
        Setting("how", "a|b", "", "a", ""),
        Setting("count", "COUNT", "", None, "How many."),
        Setting("loud", "", "", False, ""),
    ]
    shown = " ".join(say("unlearn", "outside:Mine", "--help").out.split())
    assert "[above 0, at most 2, default: required]" in shown
    assert "--loud / --no-loud" in shown
    assert "--negative-guidance" in shown  # inherited
    refusal = say("unlearn", "outside:Clash", "--help").refusal
    assert (refusal.rule, refusal.value) == ("setting-name-in-use", "seed")


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (["esd", "--seed", "1"], ["esd", "--seed", "1"]),
        (["--seed", "1", "esd"], ["esd", "--seed", "1"]),
        (["--seed=1", "esd", "--help"], ["esd", "--seed=1", "--help"]),
        (["--dry-run", "esd", "--target", "x"], ["esd", "--dry-run", "--target", "x"]),
        (["--target", "esd", "mim-mu"], ["mim-mu", "--target", "esd"]),
        (["--gradient-checkpointing", "esd"], ["esd", "--gradient-checkpointing"]),
        (["--target", "x", "--help"], ["--help"]),
        ([], ["--help"]),
    ],
)
def test_the_method_may_stand_anywhere(given: list[str], first: list[str]):
    assert put_method_first(given) == first


def test_switches_are_those_that_take_no_value():
    """`put_method_first` needs them before the method, and with it the options, is known."""
    switches = {s.flag for s in settings_of(Training) if not s.metavar} | {"--help", "--sequential", "--joint"}
    switches |= {f"--{name.replace('_', '-')}" for name, (_, default) in COMMON.items() if default is False}
    assert {s.replace("--no-", "--") for s in SWITCHES} == switches
