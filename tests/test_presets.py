"""Presets: the same run from the command line and from Python, and words for a name that is none."""

from pathlib import Path

import pytest
import tiny
from cli.commandline import say

import expunge
from expunge.cli.request import read_config
from expunge.methods import METHODS
from expunge.objective import Training
from expunge.plan import make_plan
from expunge.presets import PRESETS, preset, read_preset
from expunge.types import ExpungeError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_everything_that_decides_a_run(name):
    """What it left out would follow the defaults, and what was measured of it would no longer be true."""
    tables = read_preset(name)
    plan = make_plan(tiny.denoiser(), tiny.concept(), **preset(name))
    left = {k: v for k, v in plan.tables["method"].items() if k not in tables["method"]}
    assert left == {"kappa": "auto", "start": "auto"}  # which the squared error does not read
    unread = {"retain_pictures", "gradient_checkpointing", "checkpoint_every"}  # it retains none; the others do not change a result
    assert set(Training.__dataclass_fields__) - set(tables["training"]) == unread
    assert tables["method"]["name"] in METHODS


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_line_and_python_mean_the_same_run(name):
    kept = read_config(Path(name))
    asked = preset(name)
    assert kept["method"] == {"name": asked.pop("method")} | {k: v for k, v in asked.items() if k != "training"}
    assert kept["training"] == asked["training"]
    assert set(kept) == {"method", "training"}


def test_flags_override_a_preset():
    said = say("unlearn", "--config", "relearn-tested", "--target", "ring", "--steps", 7, "--device", "cpu", "--dry-run")
    assert "7 steps" in said.out
    assert said.code == 0, said.err


def test_a_name_that_is_none_is_refused_with_the_nearest():
    assert "(nearest: 'relearn-tested')" in say("unlearn", "--config", "relearn-testet", "--target", "ring").error
    with pytest.raises(ExpungeError, match="a preset is one of relearn-tested: 'gone' is none"):
        expunge.preset("gone")


def test_a_preset_under_another_methods_name_is_refused():
    """Nothing of it would be left, and nobody would be told."""
    error = say("unlearn", "esd", "--config", "relearn-tested", "--target", "ring").error
    assert "relearn-tested is of mim-mu, and esd is asked for" in error


def test_the_preset_is_what_the_benchmark_measures_under_the_label_mim_mu():
    """benchmarks/attacked.py says of that label what holds of the preset."""
    named, plain = (make_plan(tiny.denoiser(), tiny.concept(), **asked) for asked in (preset("relearn-tested"), {"method": "mim-mu"}))
    assert named.tables == plain.tables


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / "relearn-tested").write_text('[method]\nname = "esd"\n')
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("relearn-tested")) == {"method": {"name": "esd"}}


def test_presets_are_listed():
    assert "relearn-tested" in say("ls", "presets").out
