"""Run folders for every test of the report."""

from collections.abc import Callable
from pathlib import Path

import pytest
from report.folders import make_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes run folders under the test's own directory: `run_folder("name", ...)`, with the arguments of `make_run`."""
    return lambda name="r1", **given: make_run(tmp_path / "runs" / name, **given)
