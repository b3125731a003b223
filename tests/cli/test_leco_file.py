"""LECO's prompt files as configurations: the same objective, or a refusal that names what has no counterpart."""

import json
import tomllib
from pathlib import Path

import pytest
import tiny
from cli.commandline import say
from raising import raises_error

from expunge.cli.config_file import read_config, read_method_name
from expunge.methods import METHODS
from expunge.methods.config import Layer

PROMPT = """[[prompts]]
target = "neon"
positive = "neon"
unconditional = ""
neutral = ""
action = "erase"
guidance_scale = 1.5
resolution = 64
batch_size = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "prompts.toml").write_text(PROMPT)
    return tmp_path / "prompts.toml"


def test_a_prompt_is_esd_with_the_empty_prompt_on_the_bare_name(file):
    tables = read_config(file)
    assert tables["concept"] == {"target": "neon"}
    assert read_method_name(file, allow_code=False) == "esd"
    layer = Layer.of({key: tables[key] for key in ("method", "training")}, False)
    assert layer.method == METHODS["esd"](negative_guidance=1.5, surrogate="null", variant="xattn-lora")
    assert (layer.training.prompts, layer.training.batch_size) == ("bare", 2)


@pytest.mark.parametrize(
    "text",
    [
        'target = "neon"\nguidance = 1.5\nbatch_size = 2\n',
        PROMPT.replace("guidance_scale", "guidance"),
        PROMPT.replace('positive = "neon"\n', "").replace('neutral = ""\n', ""),
    ],
)
def test_forms_that_say_the_same(file, text):
    wanted = read_config(file)
    file.write_text(text)
    assert read_config(file) == wanted


def test_several_prompts_are_several_concepts(file):
    file.write_text(PROMPT + PROMPT.replace("neon", "ring"))
    assert read_config(file)["concept"] == {"targets": [{"target": "neon"}, {"target": "ring"}]}


@pytest.mark.parametrize(
    ("old", "new", "rule", "value"),
    [
        ('action = "erase"', 'action = "enhance"', "leco-no-counterpart", "enhance"),
        ('positive = "neon"', 'positive = "ring"', "leco-no-counterpart", "ring"),
        ('neutral = ""', 'neutral = "a painting"', "leco-no-counterpart", "a painting"),
        ('unconditional = ""', 'unconditional = "blurry"', "leco-no-counterpart", "blurry"),
        ('target = "neon"', 'target = ""', "leco-no-counterpart", ""),
        ("batch_size = 2", "dynamic_resolution = true", "leco-no-counterpart", True),
        ("batch_size = 2", "batchsize = 2", "unknown-key", "batchsize"),
        ("batch_size = 2", 'batch_size = "2"', "wrong-type", "2"),
        ('target = "neon"', "target = 3", "wrong-type", 3),
        ("[[prompts]]", "[prompts]", "wrong-type", tomllib.loads(PROMPT.replace("[[prompts]]", "[prompts]"))["prompts"]),
    ],
)
def test_what_has_no_counterpart_is_named(file, old, new, rule, value):
    file.write_text(PROMPT.replace(old, new))
    with raises_error(rule, value):
        read_config(file)


def test_a_run_has_one_guidance(file):
    file.write_text(PROMPT + PROMPT.replace("neon", "ring").replace("1.5", "2.0"))
    with raises_error("leco-several-values", [1.5, 2.0]):
        read_config(file)


def test_the_command_line_makes_the_run_of_such_a_file(file, tmp_path):
    tiny.pipeline().save_pretrained(tmp_path / "model")
    size = tiny.model().size
    file.write_text(PROMPT.replace("resolution = 64", f"resolution = {size}"))
    words = ("unlearn", "--config", file, "--model", tmp_path / "model", "--vocabulary", "canvas", "--device", "cpu")
    short = ("--steps", 2, "--points", 8, "--pictures", 2, "--whiten", 0)
    said = say(*words, *short, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert (card["method"], card["scope"], card["config"]["negative_guidance"]) == ("esd", "xattn-lora", 1.5)
    file.write_text(PROMPT.replace("resolution = 64", f"resolution = {2 * size}"))
    refusal = say(*words, *short, "--out", tmp_path / "other").refusal
    assert (refusal.rule, refusal.value) == ("leco-resolution", 2 * size)
    assert not (tmp_path / "other").exists()
