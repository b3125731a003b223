"""What shows how far a long task is."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from io import StringIO
from types import SimpleNamespace

import pytest

from expunge import progress
from expunge.audits.cells import Event
from expunge.audits.runner import Battery
from expunge.bench.results import Outcome, Trial
from expunge.cli.progress import report_failures, watch_trials, watch_units
from expunge.progress import Progress, Silent


class Clock:
    """Time that passes some seconds at each call."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Step:
    loss: float


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Makes standard error a terminal. Called by tests themselves, since pytest captures anew after fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    return made


def lines(capsys: pytest.CaptureFixture) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_lines_come_now_and_then_with_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """One second for each of 25: a line at most every 10 seconds, and one at the end."""
    monkeypatch.setattr(progress, "time", Clock())
    assert list(Progress().track(range(25), "things")) == list(range(25))
    assert lines(capsys) == ["things: 10 of 25, 15.0 s left", "things: 20 of 25, 5.0 s left", "things: 25 of 25, in 25.0 s"]


@pytest.mark.parametrize(("step", "shown"), [(0.9, False), (1.1, True)])
def test_two_seconds_pass_before_anything_is_shown(step: float, shown: bool, monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(step))
    assert list(Progress().track("ab", "letters")) == ["a", "b"]
    assert lines(capsys) == (["letters: 2 of 2, in 2.2 s"] if shown else [])


def test_steps_that_were_taken_before_count_and_take_no_time(monkeypatch, capsys):
    """From 90 of 100: at 5 seconds a step, 2 steps make 10 seconds and leave 8 steps of 5 seconds."""
    monkeypatch.setattr(progress, "time", Clock(5))
    for _ in zip(Progress().steps(iter([Step(0.5), Step(0.25), Step(0.125)]), 90, 100), range(2), strict=False):
        pass
    assert lines(capsys)[0] == "steps: 92 of 100, 40.0 s left, loss 0.25"


def test_titles_nest(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(5))
    within = Progress().within("stage 2 of 3").within("ring")
    assert list(within.track([1], "images")) == [1]
    assert lines(capsys) == ["stage 2 of 3: ring: images: 1 of 1, in 5.0 s"]


def test_silence_shows_nothing_and_stays_silent_within(monkeypatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(progress, "time", Clock(100))
    for silent in (Silent(), Silent().within("stage 1 of 2")):
        assert list(silent.track([1, 2], "things")) == [1, 2]
        assert [s.loss for s in silent.steps(iter([Step(1.0)]), 0, 1)] == [1.0]
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("value", "kind"), [("off", Silent), ("", Progress), (None, Progress)])
def test_the_environment_turns_it_off(value: str | None, kind: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EXPUNGE_PROGRESS")
    if value is not None:
        monkeypatch.setenv("EXPUNGE_PROGRESS", value)
    assert type(Progress.default()) is kind


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    for _ in Progress(delay=0).track(range(3), "things [of] mine"):
        time.sleep(0.05)
    assert "things [of] mine" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_a_narrow_terminal_shortens_the_title_and_not_the_numbers(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("COLUMNS", "70")
    for _ in Progress(delay=0).within("stage 2 of 3, uce, ring").track(range(3), "images of the concept's siblings"):
        time.sleep(0.05)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).strip().splitlines()[-1]
    assert re.search(r"^stage 2 of 3, uce, .*… .* 3/3 0:00:00 left 0:00:00 *$", last), last
    assert len(last) <= 70


def test_a_short_task_leaves_a_terminal_alone(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    assert list(Progress().track(range(3), "things")) == [0, 1, 2]
    assert terminal.getvalue() == ""


def test_a_bar_appears_while_its_first_unit_lasts(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    with Progress(delay=0.05).task("things", 2):
        time.sleep(0.5)
        assert "0/2" in terminal.getvalue()


def test_a_task_within_another_has_a_bar_below_it_and_leaves_it_on_the_screen(monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    shown = Progress(delay=0)
    for _ in shown.track(range(2), "outer"):
        for _ in shown.track(range(2), "inner"):
            time.sleep(0.05)
    text = terminal.getvalue()
    assert "inner" in text
    assert text.rindex("outer") > text.rindex("inner")
    assert "2/2" in text[text.rindex("outer") :]
    assert progress._SCREEN._bars is None


def test_a_loop_that_is_broken_off_ends_its_bar(monkeypatch: pytest.MonkeyPatch):
    terminal_of(monkeypatch)
    for _ in Progress(delay=0).track(range(9), "things"):
        time.sleep(0.05)
        break
    assert progress._SCREEN._bars is None


@pytest.mark.parametrize("colour", [True, False])
def test_colours_go_by_no_color(colour: bool, monkeypatch: pytest.MonkeyPatch):
    terminal = terminal_of(monkeypatch)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    for _ in Progress(delay=0).track(range(2), "things"):
        time.sleep(0.05)
    assert ("\x1b[38;" in terminal.getvalue() or "\x1b[3" in terminal.getvalue()) is colour


def test_it_is_light():
    code = (
        "import sys; from expunge.progress import Progress; list(Progress().track([1], 'x')); "
        "print(*sorted({'rich', 'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- what the command line shows ---------------------------------------------------------------------------------------------


def test_units_and_what_failed(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(20))
    outcomes = [Outcome("1", "esd on ring", "done"), Outcome("2", "uce on ring", "failed", "no space")]
    assert list(watch_units(iter(outcomes), 3, Progress())) == outcomes
    assert lines(capsys) == [
        "units: 1 of 3, 40.0 s left, esd on ring done",
        "units: 2 of 3, 20.0 s left, uce on ring failed",
        "failed: uce on ring: no space",
    ]


def test_trials_and_what_failed(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock(20))
    events = [Outcome("1", "esd on ring", "failed", "no space"), Trial(0, {"lr": 0.1}, 0.9, 0.8)]
    assert list(watch_trials(iter(events), "esd", 2, lambda t: f"UA {t.forgetting}", Progress())) == events
    assert lines(capsys) == ["failed: esd on ring: no space", "esd: 1 of 2, 20.0 s left, UA 0.9"]


def test_readings_are_shown_in_per_cent_of_the_price(monkeypatch, capsys):
    """Shares of the price that add up to 1 but for rounding."""
    monkeypatch.setattr(progress, "time", Clock(20))
    events = [Event("relearn", 0.1, 0.25, 50), Event("relearn", 0.1 + 0.2, error="out of memory"), Event("prune", 0.1 * 3 + 0.7 - 1e-12)]
    battery = SimpleNamespace(session=SimpleNamespace(progress=Progress()), _events=lambda: iter(events))
    assert list(Battery.run(battery)) == events
    assert lines(capsys) == [
        "per cent of the audit: 10 of 100, 3 min 0 s left, relearn: seen in 25% after 50",
        "per cent of the audit: 30 of 100, 1 min 33 s left, relearn",
        "per cent of the audit: 100 of 100, in 1 min 0 s, prune",
    ]


def test_what_failed_in_an_audit_is_reported_whatever_is_shown(capsys):
    events = [Event("relearn", 0.1, 0.25, "50 steps"), Event("relearn", 0.3, error="out of memory")]
    assert list(report_failures(iter(events))) == events
    assert lines(capsys) == ["failed: relearn: out of memory"]
