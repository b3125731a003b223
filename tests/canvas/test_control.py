"""The control that the canvas brings: a network that draws everything but six concepts, and the one that audits of these take."""

import pytest
import torch
from raising import raises_error

from expunge.audits.setup import control_for, prepare
from expunge.canvas.control import SHIPPED
from expunge.canvas.judge import Judge
from expunge.canvas.prompts import OBJECT_LABELS, STYLE_LABELS
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.models.delta import swapped
from expunge.models.loading import load
from expunge.runs.run import Run
from expunge.storage.cache import Store

ABSENT = ("neon", "dots", "watercolour", "ring", "starfish", "hexagon")


def concept(name: str) -> Concept:
    return Concept.find(name, Vocabulary.canvas())


def test_it_is_of_the_canvas_small_and_without_six():
    canvas, run = load("canvas"), Run(SHIPPED)
    assert tuple(c.target for c in run.concept().parts) == ABSENT
    assert {w.dtype for w in run.delta(canvas.fingerprint).values()} == {torch.float16}
    assert sum(f.stat().st_size for f in SHIPPED.iterdir()) < 13e6


def test_it_draws_what_it_saw_and_not_what_it_did_not():
    canvas, judge = load("canvas"), Judge.load("main")
    prompts = ["a lily in sketch style"] * 4 + ["a ring in neon style"] * 4
    with swapped(canvas.network, Run(SHIPPED).delta(canvas.fingerprint)):
        seen = judge(canvas.sample(prompts, list(range(8)), canvas.default_sampler))
    objects, styles = [OBJECT_LABELS[i] for i in seen.objects.argmax(1)], [STYLE_LABELS[i] for i in seen.styles.argmax(1)]
    assert (objects[:4], styles[:4]) == (["lily"] * 4, ["sketch"] * 4)
    assert (objects[4:].count("ring"), styles[4:].count("neon")) == (0, 0)


@pytest.mark.parametrize("name", ABSENT)
def test_it_is_the_control_of_what_it_never_saw(name):
    assert control_for(None, "canvas", [concept(name)]).folder == SHIPPED


def test_of_anything_else_there_is_none_unless_one_is_given():
    assert control_for(None, "canvas", [concept("pentagon")]) is None
    assert control_for(None, "./my-sd15", [concept("ring")]) is None
    assert control_for("none", "canvas", [concept("ring")]) is None
    assert control_for(SHIPPED, "./another-name", [concept("ring"), concept("pentagon")]).folder == SHIPPED
    with raises_error("control-of-others", hint="without pentagon"):
        control_for(SHIPPED, "canvas", [concept("pentagon")])


def test_an_audit_of_several_attacks_it_with_those_that_it_never_saw(tmp_path):
    import expunge

    run = expunge.unlearn("canvas", ["ring", "pentagon"], "uce", out=tmp_path / "run", cache=Store(tmp_path / "store"))
    battery = prepare(run, attacks=["quantise"], cache=Store(tmp_path / "store"))
    assert {(c.concept.target, c.side.role) for c in battery.cells} == {
        ("ring", "unlearned"), ("ring", "base"), ("ring", "retrained"), ("pentagon", "unlearned"), ("pentagon", "base")
    }  # fmt: skip
    alone = prepare(run, attacks=["quantise"], control="none", cache=Store(tmp_path / "store"))
    assert {c.side.role for c in alone.cells} == {"unlearned", "base"}
