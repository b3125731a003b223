"""`expunge meter`: what it prints and writes, and what it refuses before it computes anything."""

import json
from pathlib import Path

import pytest
from cli.commandline import Said, say

from expunge.cli.meter import _number

FEW = ("--pictures", 4, "--target-pictures", 8, "--draws", 2, "--maps", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def metered(run: Path) -> Said:
    return say("meter", run, *FEW)


def test_what_is_known_is_printed_and_written(run: Path, metered: Said):
    assert metered.code == 0, metered.err
    text, folder = " ".join(metered.out.split()), run / "information"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for probe in ("target", "siblings"):
        [base] = [r for r in rows if (r["probe"], r["run"]) == (probe, "base")]
        assert f"{probe} {_number(base['value'])} [{_number(base['ci_low'])}, {_number(base['ci_high'])}]" in text
    assert "kept least" in text
    assert f"rows {folder / 'rows.jsonl'} page {folder / 'index.html'}" in text
    assert "predictions of both models: " in metered.err
    assert "What the weights still know" in (folder / "index.html").read_text()


def test_the_report_has_it_from_then_on(run: Path, metered: Said, tmp_path: Path):
    assert say("report", run, "--out", tmp_path / "page.html").code == 0
    assert 'id="known"' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--draws", 3), "3 is not valid for the setting 'draws' of meter: input should be a multiple of 2."),
        (("--pictures", 1), "1 is not valid for the setting 'pictures' of meter: input should be greater than or equal to 4."),
        (
            ("--form", "best"),
            "'best' is not valid for the setting 'form' of meter: input should be 'expected', 'orthogonal' or 'sta",
        ),
    ],
)
def test_bad_settings_are_refused(run: Path, given: tuple, told: str):
    assert told in say("meter", run, *given).error


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    assert "a run is a folder with a card.json" in say("meter", tmp_path).error
