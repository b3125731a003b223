"""What computations work with, and that Python and the command line begin alike."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny
from raising import raises_error

import expunge
from expunge.cli import adopt, audit, eval, meter
from expunge.cli.unlearn import COMMON
from expunge.progress import Progress, Silent
from expunge.runs.estimate import estimate_plan
from expunge.runs.plan import make_plan
from expunge.storage.cache import Store
from expunge.training.banks import pictured
from expunge.training.renderer import Renderer
from expunge.training.session import Session


@dataclass
class Tally:
    """A task that counts."""

    title: str
    total: int
    done: int = 0

    def advance(self, note: str = "", by: int = 1) -> None:
        self.done += by


@dataclass(frozen=True)
class Counting(Progress):
    """Keeps every task that it is asked to show."""

    tasks: list[Tally] = field(default_factory=list)

    @contextmanager
    def task(self, title: str, total: int, done: int = 0) -> Iterator[Tally]:
        self.tasks.append(Tally(self.title + title, total, done))
        yield self.tasks[-1]


def test_a_session_fills_in_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    pipeline = tiny.pipeline()
    opened = Session.open(pipeline)
    assert opened.model.pipeline is pipeline
    assert (opened.cache, type(opened.progress), opened.distributed.count) == (Store.default(), Silent, 1)
    monkeypatch.delenv("EXPUNGE_PROGRESS")
    given = Session.open(opened.model, cache=str(tmp_path))
    assert given.model is opened.model
    assert (given.cache, given.progress) == (Store(tmp_path), Progress())


@pytest.mark.parametrize(("render_batch", "parts"), [(None, [(0, 4), (4, 8), (8, 10)]), (3, [(0, 3), (3, 6), (6, 9), (9, 10)])])
def test_images_are_sampled_so_many_at_a_time(render_batch: int | None, parts: list[tuple[int, int]]):
    shown = Counting()
    session = Session(tiny.model(), Store.default(), shown, render_batch=render_batch)
    assert [(p.start, p.stop) for p in Renderer(session, 4).parts(10, "images")] == parts
    assert shown.tasks == [Tally("images", 10, 10)]


@pytest.mark.parametrize("render_batch", [0, -1])
def test_no_images_at_once_are_refused(render_batch: int):
    with raises_error("render-batch", render_batch):
        Session(tiny.model(), Store.default(), Silent(), render_batch=render_batch)


def test_the_batch_reaches_the_network(tmp_path: Path):
    """Guidance passes each image twice, and the tiny model's sampler has 4 steps."""
    session, sizes = Session(tiny.model(), Store(tmp_path), Silent(), render_batch=2), []
    session.model.network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    pictured(session, "forget", ["a ring"] * 5, list(range(5)))
    assert sizes == [4] * 4 + [4] * 4 + [2] * 4


def test_latents_are_cached_apart_by_how_many_are_sampled_at_once(tmp_path: Path):
    """Their last digits depend on it, and training goes on from them."""
    for render_batch in (None, 2, 3, 2):
        pictured(Session(tiny.model(), Store(tmp_path), Silent(), render_batch=render_batch), "forget", ["a ring"] * 5, list(range(5)))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_a_run_shows_its_images_and_its_steps_stage_by_stage(tmp_path: Path):
    shown = Counting()
    both = [tiny.concept("neon"), tiny.concept("ring")]
    expunge.unlearn(
        tiny.model(), both, training=tiny.TRAINING, together="sequential", out=tmp_path / "run", cache=tmp_path / "cache", progress=shown
    )
    assert [(t.title.split(": ", 1)[0], t.title.rsplit(": ", 1)[1], t.total, t.done) for t in shown.tasks] == [
        ("stage 1 of 2, neon", "images of the concept", 8, 8),
        ("stage 1 of 2, neon", "steps", 6, 6),
        ("stage 2 of 2, ring", "images of the concept", 8, 8),
        ("stage 2 of 2, ring", "steps", 6, 6),
    ]


def test_a_price_shows_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("expunge.models.speed.PATIENCE", 0.0)
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    tiny.pipeline().save_pretrained(tmp_path / "model")
    shown = Counting()
    session = Session.open(str(tmp_path / "model"), device="cpu", weights=False, progress=shown)
    estimate_plan(make_plan(session.model, tiny.concept(), "mim-mu", training=tiny.TRAINING), session)
    assert [(t.title.split(" the ")[0], t.done) for t in shown.tasks] == [("reading", 1), ("counting", 1), ("measuring", 1)]


def test_an_audit_shows_its_price_and_each_attack(tmp_path: Path):
    cache, shown = tmp_path / "cache", Counting()
    made = expunge.unlearn(tiny.model(), tiny.concept(), "uce", out=tmp_path / "run", cache=cache)
    budget = tmp_path / "budget.toml"
    budget.write_text('pictures = 2\n[[attacks]]\nname = "quantise"\nbits = [4]\n')
    sampler = expunge.Sampler(1, 1.0)
    expunge.audit(made, budget, model=tiny.model(), sampler=sampler, judge="main", control="none", cache=cache, progress=shown)
    whole, *parts = shown.tasks
    assert whole == Tally("per cent of the audit", 100, 100)
    assert {t.title for t in parts} == {"quantise on unlearned, neon", "quantise on base, neon"}


VERBS = {
    "evaluate": (expunge.evaluate, eval.evaluate),
    "measure_information": (expunge.measure_information, meter.meter),
    "audit": (expunge.audit, audit.audit),
    "adopt": (expunge.adopt, adopt.adopt),
}


@pytest.mark.parametrize("name", VERBS)
def test_python_and_the_command_line_have_the_same_defaults(name: str):
    """Of every argument that both have."""
    ours, theirs = (inspect.signature(function).parameters for function in VERBS[name])
    shared = [p for p in ours if p in theirs and ours[p].default is not inspect.Parameter.empty]
    assert "device" in shared
    assert {p: ours[p].default or None for p in shared} == {p: theirs[p].default or None for p in shared}


def test_unlearning_has_the_same_defaults_too():
    ours = inspect.signature(expunge.unlearn).parameters
    for shared in ("device", "seed", "dtype", "out"):
        assert (ours[shared].default or None) == (COMMON[shared][1] or None)
