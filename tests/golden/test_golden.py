"""A few of the recorded numbers are still what they were; `record.py` compares all of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUICK = ("method/mim-mu", "method/esd", "method/pure", "method/fmn", "method/uce", "several/uce in sequence")

pytestmark = pytest.mark.slow


def compared(golden: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """The script's answer. A program of its own: tests run without some of torch's kernels, whose rounding is another."""
    only = [word for name in names for word in ("--only", name)]
    asked = [sys.executable, str(HERE / "record.py"), "--golden", str(golden), *only]
    return subprocess.run(asked, capture_output=True, text=True, check=False)


def test_numbers_are_those_that_were_recorded():
    said = compared(HERE / "golden.json", *QUICK)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(QUICK)} cases" in said.stdout


def test_another_loss_is_a_difference(tmp_path: Path):
    golden = json.loads((HERE / "golden.json").read_text())
    losses = golden["cases"]["method/fmn"]["log.loss"]
    losses[3] = (float.fromhex(losses[3]) * 1.001).hex()
    (tmp_path / "other.json").write_text(json.dumps(golden))
    said = compared(tmp_path / "other.json", "method/fmn")
    assert said.returncode == 1, said.stdout + said.stderr
    assert "log.loss[3]" in said.stdout
