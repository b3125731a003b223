"""Runs that end before their last step: asked with the right weights, cut where they say, and the same when they were killed."""

import json
from dataclasses import dataclass

import pytest
import tiny
import torch

from expunge.concepts.concept import Concept
from expunge.diffusion.types import Point
from expunge.errors import ExpungeError
from expunge.evaluation import early_stopping as probe
from expunge.evaluation.early_stopping import Gone
from expunge.evaluation.judges import Judgement
from expunge.models.stable_diffusion import StableDiffusion
from expunge.runs.export import load
from expunge.runs.plan import make_plan
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.stopping import StoppingRule

LAST = 3
PLAIN = tiny.TRAINING | {"schedule": "constant", "checkpoint_every": 1}
VARIANTS = {"present weights": ("xattn", 0.0), "running mean": ("xattn", 0.5), "low rank": ("xattn-lora", 0.0), "both": ("xattn-lora", 0.5)}

asked: list[tuple[int, torch.Tensor]] = []


def said(model) -> torch.Tensor:
    """What the network says of one point."""
    with torch.no_grad():
        return model.predict(Point(torch.ones(1, *model.latent_shape), torch.tensor([500]), model.encode(["a ring"]), ("p",)))


@dataclass(frozen=True)
class After(StoppingRule):
    """Ends a run after so many steps, and records what the model predicted at each check."""

    steps: int = LAST

    def start(self, model, concept):
        return AfterCheck(self.steps, model)


@dataclass(frozen=True)
class AfterCheck:
    steps: int
    model: StableDiffusion

    def is_done(self, steps_done: int) -> bool:
        asked.append((steps_done, said(self.model)))
        return steps_done == self.steps


def made(folder, variant="present weights", stop=None, **training) -> Run:
    trained, ema = VARIANTS[variant]
    return unlearn(
        tiny.model(), tiny.concept(), "mim-mu", variant=trained, training=PLAIN | {"ema": ema} | training,
        out=folder, cache=Store(folder.parent / "store"), stop=stop,
    )  # fmt: skip


def delta(run: Run) -> bytes:
    return (run.folder / "delta.safetensors").read_bytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_ended_is_the_shorter_run(tmp_path, variant):
    """And its rule was shown the very model that it ends with, which training in place or beside would not both give."""
    asked.clear()
    ended = made(tmp_path / "ended", variant, After())
    assert delta(ended) == delta(made(tmp_path / "short", variant, steps=LAST))
    assert ended.card["steps_done"] == LAST
    assert len((ended.folder / "log.jsonl").read_text().splitlines()) == LAST
    assert [step for step, _ in asked] == [1, 2, 3]
    model = StableDiffusion(load(tiny.pipeline(), ended))
    torch.testing.assert_close(said(model), asked[-1][1], rtol=1e-5, atol=1e-6)
    assert not torch.equal(asked[0][1], asked[-1][1])


def test_a_rule_that_never_ends_changes_nothing(tmp_path):
    whole = made(tmp_path / "asked", stop=After(99))
    assert delta(whole) == delta(made(tmp_path / "plain"))
    assert whole.card["steps_done"] == PLAIN["steps"]


def test_a_run_killed_after_its_last_step_ends_there(tmp_path, monkeypatch):
    """Its checkpoint is that of the step it ended at: to go on from there would train past the end."""
    expected = delta(made(tmp_path / "straight", stop=After()))
    with monkeypatch.context() as patch:
        patch.setattr("expunge.runs.unlearn.save_delta", lambda *_: pytest.fail("killed", pytrace=False))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            made(tmp_path / "killed", stop=After())
    resumed = made(tmp_path / "killed", stop=After())
    assert delta(resumed) == expected
    assert resumed.card["steps_done"] == LAST
    assert len((resumed.folder / "log.jsonl").read_text().splitlines()) == LAST


def test_a_rule_is_a_part_of_the_run():
    model, concept = tiny.model(), tiny.concept()
    plans = [make_plan(model, concept, "mim-mu", stop=stop) for stop in (None, After(), After(4), Gone(), Gone(every=10))]
    assert len({plan.id for plan in plans}) == 5
    assert plans[0].tables.keys() == plans[1].tables.keys() - {"stop"}
    assert plans[1].tables["stop"] == {"rule": f"{__name__}:After", "steps": LAST}
    assert plans[4].tables["stop"] == {"rule": "gone", "every": 10, "pictures": 16, "seen": 0.0}


class Plain(StoppingRule):
    """No dataclass, so that nothing says what its settings are."""

    def start(self, model, concept):
        return AfterCheck(1, model)


def test_a_rule_that_its_table_does_not_identify_is_refused():
    @dataclass(frozen=True)
    class Local(After):
        pass

    for stop, rule in ((Plain(), "unnamed-stopping-rule"), (Local(), "unnamed-stopping-rule"), (len, "stopping-rule")):
        with pytest.raises(ExpungeError) as error:
            make_plan(tiny.model(), tiny.concept(), "mim-mu", stop=stop)
        assert error.value.rule == rule
        assert error.value.hint.startswith("Try ")


def test_a_closed_form_has_nothing_to_stop():
    with pytest.raises(ExpungeError, match="a closed form has no steps to stop after: uce"):
        make_plan(tiny.model(), tiny.concept(), "uce", stop=Gone())


class Sees:
    """A judge that sees the concept in so many of the pictures, and remembers how many it was shown."""

    name = "sees"

    def __init__(self, count: int):
        self.count, self.shown = count, []

    def __call__(self, images, concept) -> Judgement:
        self.shown.append(images)
        rest = len(images) - self.count
        return Judgement({"style": ("neon",) * self.count + ("dots",) * rest})


@pytest.mark.parametrize(("count", "seen", "gone"), [(0, 0.0, True), (1, 0.0, False), (1, 0.25, True), (2, 0.25, False)])
def test_gone_is_when_the_judge_sees_the_concept_in_few_enough(monkeypatch, count, seen, gone):
    monkeypatch.setattr(probe, "judges_for", lambda *_: (Sees(count),))
    assert Gone(every=1, pictures=4, seen=seen).start(tiny.model(), tiny.concept()).is_done(1) is gone


def test_gone_looks_now_and_then_at_the_same_pictures_of_the_concept(monkeypatch):
    judge, model = Sees(1), tiny.model()
    prompts = []
    monkeypatch.setattr(probe, "judges_for", lambda *_: (judge,))
    monkeypatch.setattr(model, "sample", lambda p, s: prompts.append((p, s)) or torch.zeros(len(p), 3, 8, 8, dtype=torch.uint8))
    check = Gone(every=3, pictures=16).start(model, tiny.concept())
    assert not any(check.is_done(step) for step in range(1, 10))
    assert len(judge.shown) == 3
    assert prompts[0] == prompts[1] == prompts[2]
    assert len(set(prompts[0][0])) == len(set(prompts[0][1])) == 16
    assert all("neon" in p for p in prompts[0][0])


def test_gone_asks_for_a_judge_before_anything_is_written(tmp_path):
    with pytest.raises(ExpungeError) as refused:
        made(tmp_path / "run", stop=Gone())
    assert (refused.value.rule, refused.value.value) == ("missing-judge", "in memory")
    assert not (tmp_path / "run").exists()


def test_more_pictures_than_prompts_are_drawn_from_other_noise(monkeypatch):
    model = tiny.model()
    concept: Concept = tiny.concept()
    drawn = []
    monkeypatch.setattr(probe, "judges_for", lambda *_: (Sees(0),))
    monkeypatch.setattr(model, "sample", lambda p, s: drawn.extend(zip(p, s, strict=True)) or torch.zeros(len(p), 3, 8, 8).byte())
    Gone(every=1, pictures=50).start(model, concept).is_done(1)
    assert len(set(drawn)) == 50


def test_the_command_line_ends_a_run_and_repeats_it(tmp_path):
    from cli.commandline import WORDS, say

    tiny.pipeline().save_pretrained(tmp_path / "model", safe_serialization=True)
    (tmp_path / "words.toml").write_text(WORDS)
    common = ("--model", tmp_path / "model", "--vocabulary", tmp_path / "words.toml", "--device", "cpu", "--target", "neon")
    small = ("--steps", 4, "--batch-size", 4, "--points", 6, "--pictures", 2)
    # A random network draws no neon.
    done = say("unlearn", "mim-mu", *common, *small, "--stop-when-gone", 2, "--judge", "main", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "steps   2 of 4" in done.out
    again = say("unlearn", "--config", tmp_path / "run" / "config.toml", "--out", tmp_path / "again", "--device", "cpu")
    assert again.code == 0, again.err
    cards = [json.loads((tmp_path / name / "card.json").read_text()) for name in ("run", "again")]
    assert cards[0]["id"] == cards[1]["id"]
    assert cards[1]["steps_done"] == 2
    dry = say("unlearn", "--config", tmp_path / "run" / "config.toml", "--stop-when-gone", 0, "--dry-run")
    assert "may stop" not in dry.out
    assert "may stop" in say("unlearn", "--config", tmp_path / "run" / "config.toml", "--dry-run").out
    assert say("unlearn", "mim-mu", *common, "--judge", "main").refusal.rule == "judge-without-stop"


def test_of_several_concepts_each_must_be_gone(monkeypatch):
    from expunge.concepts.groups import Several

    both = Several.of([tiny.concept("dots"), tiny.concept("neon")])
    for count, gone in ((0, False), (4, False)):  # the judge calls the rest dots, so one of the two is always seen
        monkeypatch.setattr(probe, "judges_for", lambda *_, count=count: (Sees(count),))
        assert Gone(every=1, pictures=4).start(tiny.model(), both).is_done(1) is gone
    assert Gone(every=1, pictures=4, seen=0.5).start(tiny.model(), both).is_done(1) is False
    monkeypatch.setattr(probe, "judges_for", lambda *_: (Sees(2),))
    assert Gone(every=1, pictures=4, seen=0.5).start(tiny.model(), both).is_done(1) is True
