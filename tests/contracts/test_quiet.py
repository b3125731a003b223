"""Loading a model prints nothing, and leaves the libraries' own switches as they were."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tiny
from diffusers.utils import logging as of_diffusers
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as of_transformers

from expunge.models.loading import load
from expunge.models.quiet import quiet

SOURCE = str(Path(__file__).parents[2] / "src")


def switches() -> list[bool | int]:
    logs = (of_diffusers, of_transformers)
    return [are_progress_bars_disabled(), *(log.get_verbosity() for log in logs), *(log.is_progress_bar_enabled() for log in logs)]


def test_loading_prints_nothing(tmp_path, capfd):
    tiny.pipeline().save_pretrained(tmp_path / "tiny", safe_serialization=True)
    kept = of_transformers.get_verbosity()
    of_transformers.set_verbosity_warning()  # what it starts with, but for the tests
    before = switches()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "tiny")
    assert capfd.readouterr() == ("", "")
    assert switches() == before
    of_transformers.set_verbosity(kept)


@pytest.mark.slow
def test_importing_prints_nothing():
    environment = {k: v for k, v in os.environ.items() if k not in ("TRANSFORMERS_VERBOSITY", "PYTHONWARNINGS")}
    code = "import expunge; expunge.load, expunge.unlearn, expunge.Sampler"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | {"PYTHONPATH": SOURCE})
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("downloads", [True, False])
def test_the_switches_stand_afterwards_as_before(bars, downloads, monkeypatch):
    hub = sys.modules["huggingface_hub.utils.tqdm"]
    monkeypatch.setattr(hub, "HF_HUB_DISABLE_PROGRESS_BARS", None)  # tests set it, and it would win
    try:
        (of_transformers.enable_progress_bar if bars else of_transformers.disable_progress_bar)()
        (enable_progress_bars if downloads else disable_progress_bars)()
        before = switches()
        with quiet():
            assert switches() == [not downloads, of_diffusers.ERROR, of_transformers.ERROR, False, False]
        assert switches() == before
    finally:
        of_transformers.enable_progress_bar()
        disable_progress_bars()
