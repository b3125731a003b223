"""Presets: the same run from the command line and from Python, and words for a name that is none."""

from pathlib import Path

import pytest
import tiny
from cli.commandline import say
from raising import raises_error

import expunge
from expunge.bench.config import read_suite
from expunge.bench.runner import plan_of
from expunge.cli.config_file import read_config
from expunge.methods import METHODS
from expunge.methods.config import Layer
from expunge.methods.presets import PRESETS, preset, read_preset
from expunge.runs.plan import make_plan


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_everything_that_decides_a_run(name):
    """What it left out would follow the defaults, and what was measured of it would no longer be true."""
    tables = read_preset(name)
    plan = make_plan(tiny.model(), tiny.concept(), **preset(name))
    layers = *plan.before, Layer(plan.method, plan.training)
    for said, layer in zip((*tables.get("before", ()), tables), layers, strict=True):
        left = {k: v for k, v in layer.tables["method"].items() if k not in said["method"]}
        assert left.items() <= {"kappa": "auto", "start": "auto"}.items()  # which the squared error does not read
        assert said["method"]["name"] in METHODS
        unread = {"gradient_checkpointing", "checkpoint_every"}  # which do not change a result
        unread |= set() if "retain" in layer.method.needs else {"retain_pictures"}
        assert set(layer.tables.get("training", ())) - set(said.get("training", ())) == (unread if layer.training else set())


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_line_and_python_mean_the_same_run(name):
    kept, asked = read_config(Path(name)), preset(name)
    beside = {key: asked.pop(key) for key in ("training", "before") if key in asked}
    assert kept == {"method": {"name": asked.pop("method")} | asked, **beside}


def test_flags_override_a_preset():
    said = say("unlearn", "--config", "relearn-tested", "--target", "ring", "--steps", 7, "--device", "cpu", "--dry-run")
    assert "7 steps" in said.out
    assert said.code == 0, said.err


def test_a_name_that_is_none_is_refused_with_the_nearest():
    assert "Try 'relearn-tested'" in say("unlearn", "--config", "relearn-testet", "--target", "ring").error
    with raises_error("unknown-preset", "gone", "`expunge ls presets`"):
        expunge.preset("gone")


def test_a_preset_under_another_methods_name_is_refused():
    """Nothing of it would be left, and nobody would be told."""
    refusal = say("unlearn", "esd", "--config", "relearn-tested", "--target", "ring").refusal
    assert (refusal.rule, refusal.value) == ("preset-of-another-method", "esd")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("relearn-tested", "MiM-MU"),
        ("relearn-resistant", "PURE"),
        ("picture-then-name", "SalUn, then UCE"),
        ("resistant", "SalUn, then PURE"),
    ],
)
def test_a_preset_is_what_the_benchmark_measures_under_its_label(name, label):
    """benchmarks/attacked.py says of the label what holds of the preset."""
    unit = next(u for u in read_suite("canvas").units if u.label == label)
    named, measured = make_plan(tiny.model(), tiny.concept(), **preset(name)), plan_of(unit, tiny.model())
    assert (named.before, named.method, named.training) == (measured.before, measured.method, measured.training)


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / "relearn-tested").write_text('[method]\nname = "esd"\n')
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("relearn-tested")) == {"method": {"name": "esd"}}


def test_presets_are_listed():
    listed = say("ls", "presets").out
    assert all(name in listed for name in PRESETS)
