"""`expunge meter`: what it prints and writes, and its errors before it computes anything."""

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
    assert "other concepts with the lowest ratios" in text
    assert f"rows {folder / 'rows.jsonl'} page {folder / 'index.html'}" in text
    assert "predictions of both models: " in metered.err
    assert "What the weights still know" in (folder / "index.html").read_text()


def test_the_report_has_it_from_then_on(run: Path, metered: Said, tmp_path: Path):
    assert say("report", run, "--out", tmp_path / "page.html").code == 0
    assert 'id="information"' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (("--draws", 3), ["draws", "input should be a multiple of 2", "3"]),
        (("--pictures", 1), ["pictures", "input should be greater than or equal to 4", "1"]),
        (("--form", "best"), ["form", "input should be 'expected', 'orthogonal' or 'standard'", "'best'"]),
    ],
)
def test_bad_settings(run: Path, given: tuple, parts: list[str]):
    line = say("meter", run, *given).error
    for part in parts:
        assert part in line


def test_a_folder_that_is_no_run(tmp_path: Path):
    assert str(tmp_path) in say("meter", tmp_path).error
