"""A few of the recorded numbers have not changed; `record.py` compares all of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUICK = ("method/mim-mu", "method/esd", "method/pure", "method/fmn", "method/uce", "several/uce in sequence")

pytestmark = pytest.mark.slow


def compare(golden: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the script. It is a separate program, because tests disable some of torch's kernels, which round differently."""
    only = [word for name in names for word in ("--only", name)]
    command = [sys.executable, str(HERE / "record.py"), "--golden", str(golden), *only]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_numbers_are_those_that_were_recorded():
    done = compare(HERE / "golden.json", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUICK)} cases" in done.stdout


def test_another_loss_is_a_difference(tmp_path: Path):
    golden = json.loads((HERE / "golden.json").read_text())
    losses = golden["cases"]["method/fmn"]["log.loss"]
    losses[3] = (float.fromhex(losses[3]) * 1.001).hex()
    (tmp_path / "other.json").write_text(json.dumps(golden))
    done = compare(tmp_path / "other.json", "method/fmn")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "log.loss[3]" in done.stdout
