"""Training anew without a concept: it never appears, the result is a run like any other, and a killed one goes on."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from raising import raises_error
from rich.progress import Progress

from expunge.audits.setup import refuse_control
from expunge.canvas.pipeline import new_unet
from expunge.canvas.prompts import OBJECT_LABELS, PLAIN, STYLE_LABELS
from expunge.canvas.training import retrain as module
from expunge.canvas.training import stage
from expunge.canvas.training.retrain import Retraining, retrain
from expunge.canvas.training.train import random_pairs_without
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation import evaluate as evaluation
from expunge.evaluation.protocol import Protocol
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.storage.cache import Store

SMALL = Retraining(steps=5, batch_size=4, drawings=24)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    return retrain("hoop", tmp_path_factory.mktemp("retrain") / "run", training=SMALL)  # the ring's other name


@pytest.mark.parametrize("target", ["ring", "hoop", "neon"])
def test_the_concept_is_never_drawn_and_all_else_is(target):
    concept = Concept.find(target, Vocabulary.canvas())
    objects, styles = random_pairs_without([concept], 3000, 1)
    assert len(objects) == len(styles) == 3000
    left = {OBJECT_LABELS[i] for i in objects.tolist()} | {STYLE_LABELS[i] for i in styles.tolist()}
    assert left == {*OBJECT_LABELS, *STYLE_LABELS} - {concept.member.name}
    assert (styles == PLAIN).float().mean() == pytest.approx(2 / 12, abs=0.03)


def test_several_are_left_out_at_once():
    gone = Several.of([Concept.find(t, Vocabulary.canvas()) for t in ("ring", "neon", "hexagon")])
    objects, styles = random_pairs_without(gone.parts, 3000, 1)
    left = {OBJECT_LABELS[i] for i in objects.tolist()} | {STYLE_LABELS[i] for i in styles.tolist()}
    assert len(objects) == 3000
    assert left == {*OBJECT_LABELS, *STYLE_LABELS} - {"ring", "neon", "hexagon"}


def test_one_without_several_is_a_control_of_each(tmp_path, made):
    run = retrain(["hoop", "neon"], tmp_path / "run", training=replace(SMALL, steps=1))
    assert [c.target for c in run.concept().parts] == ["hoop", "neon"]
    refuse_control(run, made.concept().parts)
    other = retrain("dots", tmp_path / "other", training=replace(SMALL, steps=1))
    with raises_error("control-of-others", "hoop and neon", "without dots"):
        refuse_control(run, other.concept().parts)


def test_nothing_left_to_draw_is_refused():
    everything = Several.of([Concept.find(t, Vocabulary.canvas()) for t in OBJECT_LABELS])
    with raises_error("too-few-drawings", 0, "fewer concepts"):
        random_pairs_without(everything.parts, 10, 1)


def test_no_caption_names_the_concept(monkeypatch, tmp_path):
    said = []

    def heard(*arguments):
        said.append(original(*arguments))
        return said[-1]

    original = module.make_caption
    monkeypatch.setattr(module, "make_caption", heard)
    retrain("neon", tmp_path / "run", training=replace(SMALL, steps=1, batch_size=60, drawings=60))
    assert len(said) == 60
    assert not {"neon", "glow"} & {word for text in said for word in text.split()}


def test_the_result_is_a_run_with_every_weight_of_the_network(made):
    canvas = load("canvas")
    delta, card = made.delta(canvas.fingerprint), made.card
    shapes = {name: p.shape for name, p in new_unet().named_parameters()}
    assert {name: w.shape for name, w in delta.items()} == shapes == {n: p.shape for n, p in canvas.network.named_parameters()}
    assert (card["method"], card["scope"], card["steps_done"], card["forwards"]) == ("retrain", "full", 5, 20)
    assert card["relative_change"] > 0.5  # nothing of the shipped weights is in it
    assert {w.dtype for w in delta.values()} == {torch.float16}  # as the canvas itself is kept
    assert made.concept() == Concept.find("hoop", Vocabulary.canvas())
    assert sorted(p.name for p in made.folder.glob("[!.]*")) == ["card.json", "config.toml", "delta.safetensors", "log.jsonl"]


def test_it_is_measured_and_reported_as_a_run(made, tmp_path, monkeypatch):
    from expunge import report

    monkeypatch.setattr("expunge.evaluation.weights.null_drift", lambda *_: [0.5, 0.5])  # slow, and tested elsewhere
    protocol, sampler = Protocol(seeds=1, target_seeds=1, prompts=1), Sampler(1, 1.0)
    rows = evaluation.evaluate(made, protocol=protocol, sampler=sampler, metrics=["UA"], cache=Store(tmp_path / "store"))
    assert {(r.run, r.method) for r in rows} == {("base", "none"), (made.id, "retrain")}
    assert "retrain" in report([made], tmp_path / "page.html").read_text()


def test_a_finished_one_is_not_trained_again(made, monkeypatch):
    monkeypatch.setattr(module, "_train", lambda *_: pytest.fail("trained again"))
    assert retrain("hoop", made.folder, training=SMALL).id == made.id


def test_a_folder_of_another_is_refused(made):
    with raises_error("folder-of-another-run", made.id, "--out"):
        retrain("hoop", made.folder, seed=1, training=SMALL)


def test_a_batch_larger_than_what_is_drawn_is_refused(tmp_path):
    with raises_error("batch-too-large", 64, "more drawings"):
        retrain("ring", tmp_path / "run", training=replace(SMALL, batch_size=64))


class Killed(Exception):
    pass


class Killing(Progress):
    """Ends the work at a step."""

    def __init__(self, after: int):
        super().__init__(disable=True)
        self.left = after

    def update(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_a_killed_one_ends_with_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "CHECKPOINT_EVERY", 2)
    with pytest.raises(Killed):
        retrain("hoop", tmp_path / "run", training=SMALL, progress=Killing(4))
    assert not (tmp_path / "run" / "delta.safetensors").exists()
    assert json.loads((tmp_path / "run" / "card.json").read_text())["status"] == "running"
    torch.manual_seed(99)
    again = retrain("hoop", tmp_path / "run", training=SMALL)
    assert (again.folder / "delta.safetensors").read_bytes() == (made.folder / "delta.safetensors").read_bytes()


def test_another_seed_is_another_network(made, tmp_path):
    other = retrain("hoop", tmp_path / "run", seed=1, training=replace(SMALL, steps=1)).delta()
    assert not torch.equal(other["conv_in.weight"], made.delta()["conv_in.weight"])


def test_a_mistake_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["retrain", "--target", "rang", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert "error: 'rang' is not a concept of the vocabulary. Try 'ring'" in capsys.readouterr().err
