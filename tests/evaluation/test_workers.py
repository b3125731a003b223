"""Images that several processes sample: those of one process."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import apart
import pytest
import tiny
import torch
from invariants.test_processes import told
from raising import raises_error

from expunge.evaluation import evaluate as evaluating
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.worker import Job, shared, work
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.cluster import import_path
from expunge.training.session import Session
from expunge.training.workers import LocalWorkers, places, started

FEW = {"sampler": Sampler(1, 1.0), "protocol": Protocol(prompts=4, target_seeds=2), "render_batch": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model in a folder, which other processes can load."""
    folder = tmp_path_factory.mktemp("shared")
    tiny.pipeline().save_pretrained(folder / "model")
    return unlearn(str(folder / "model"), tiny.concept(), "uce", out=folder / "run", cache=folder / "cache", device="cpu")


def images(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (cache / "pictures").glob("*.png")}


@pytest.fixture(scope="module")
def alone(made: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The images of one process."""
    folder = tmp_path_factory.mktemp("alone")
    evaluate(made, cache=folder, **FEW)
    return images(folder)


class Listening:
    """A process that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.stdin = self

    def write(self, line: str) -> None:
        self.jobs.append(Path(line.strip()).read_text())

    def flush(self) -> None:
        pass


def test_a_worker_samples_what_the_evaluation_would(made: Run, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of it, if it is alone: the evaluation finds every image."""
    other, given = Listening(), []

    class Helped(LocalWorkers):
        def send(self, job: str) -> None:
            super().send(job)
            work(Job(**json.loads(other.jobs[-1])), "cpu")
            given.append(len(images(tmp_path)))

    def helped(*given):
        return nullcontext(Helped((other,)))

    monkeypatch.setattr(evaluating, "started", helped)
    before = torch.get_num_threads()
    evaluate(made, cache=tmp_path, workers=2, **FEW)
    assert torch.get_num_threads() == before
    assert images(tmp_path) == alone
    assert given == [len(alone) // 2, len(alone)]
    assert not list((tmp_path / "claims").glob("*"))


def test_workers_of_their_own_and_this_process_make_the_images_of_one(made: Run, alone: dict[str, bytes], tmp_path: Path):
    """The other process may have other convolutions than the tests have, so that last digits differ."""
    evaluate(made, cache=tmp_path, workers=2, **FEW)
    assert images(tmp_path).keys() == alone.keys()


def together(run: Run, folder: Path, environments: list[dict[str, str]], runs: list[Path]) -> list[dict]:
    """What processes note that evaluate runs at the same time with one cache."""
    notes = [folder / f"{i}.json" for i in range(len(environments))]
    cache = folder / "cache"
    started = [apart.start(apart.measure, r, cache, n, e, FEW) for r, n, e in zip(runs, notes, environments, strict=True)]
    for process in started:
        process.join(300)
    assert [p.exitcode for p in started] == [0] * len(started)
    return [json.loads(note.read_text()) for note in notes]


def test_processes_of_a_launcher_make_the_images_of_one(made: Run, alone: dict[str, bytes], tmp_path: Path):
    """Each samples its share, and the main one writes."""
    main, other = together(made, tmp_path, told(2), [made.folder] * 2)
    assert images(tmp_path / "cache") == alone
    assert main["rows"] == other["rows"] > 0
    shares = [len(noted["sampled"]) for noted in (main, other)]
    assert sum(shares) == len(alone)
    assert min(shares) >= len(alone) // 2 - 4


def test_commands_that_share_a_cache_share_the_base_images(made: Run, alone: dict[str, bytes], tmp_path: Path):
    """Each image is sampled once, by one of the two."""
    runs = [shutil.copytree(made.folder, tmp_path / name) for name in ("a", "b")]
    noted = together(made, tmp_path, [{}, {}], runs)
    assert images(tmp_path / "cache") == alone
    assert sum(len(n["sampled"]) for n in noted) == len(alone)


def test_a_worker_that_would_sample_other_images_says_so(made: Run, tmp_path: Path):
    session = Session(
        load(made.card["model"]["name"]), Store(tmp_path), Silent(), render_batch=2, workers=LocalWorkers((other := Listening(),))
    )
    with shared(session, plan(tiny.concept(), FEW["protocol"]), FEW["sampler"], "weights", {}) as batches:
        assert len(batches) > 1
    job = json.loads(other.jobs[0])
    with raises_error("other-images", "cpu"):
        work(Job(**job | {"names": "of another version"}), "cpu")


class Remote:
    """What `ray.remote` returns of a class, with the calls done at once in this process."""

    made: ClassVar[list["Remote"]] = []

    def __init__(self, kind: type) -> None:
        self.kind, self.asked = kind, {}

    def options(self, **asked: object) -> "Remote":
        self.asked = asked
        return self

    def remote(self, *given: object) -> "Remote":
        self.actor, self.killed = self.kind(*given), False
        self.do = SimpleNamespace(remote=self.actor.do)
        self.made.append(self)
        return self


def test_actors_of_a_cluster_sample_what_the_evaluation_would(made: Run, alone: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No Ray needed: a stand-in with its few names."""
    stand_in = SimpleNamespace(is_initialized=lambda: True, remote=Remote, kill=lambda actor: setattr(actor, "killed", True))
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    Remote.made.clear()
    evaluate(made, cache=tmp_path, workers=3, address="auto", **FEW)
    assert images(tmp_path) == alone
    assert [(one.asked["num_gpus"], one.actor.device, one.killed) for one in Remote.made] == [(0, "cpu", True)] * 2
    with raises_error("one-worker-on-a-cluster", "auto"):
        evaluate(made, cache=tmp_path, address="auto", **FEW)


def test_a_node_that_is_lost_leaves_its_images_to_the_others(made: Run, alone: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The actor is on a node that is gone: Ray takes its jobs, and nothing comes of them."""
    stand_in = SimpleNamespace(is_initialized=lambda: True, remote=Remote, kill=lambda actor: None)
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    Remote.made.clear()
    done = Remote.remote

    def lost(self: Remote, *given: object) -> Remote:
        actor = done(self, *given)
        actor.do.remote = lambda job: None
        return actor

    monkeypatch.setattr(Remote, "remote", lost)
    evaluate(made, cache=tmp_path, workers=2, address="auto", **FEW)
    assert len(Remote.made) == 1
    assert images(tmp_path) == alone


@pytest.mark.slow
def test_a_real_cluster_samples_the_images_of_one_process(made: Run, alone: dict[str, bytes], tmp_path: Path):
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, runtime_env={"env_vars": import_path()}
    )
    try:
        evaluate(made, cache=tmp_path, workers=2, address="auto", **FEW)
    finally:
        ray.shutdown()
    assert images(tmp_path).keys() == alone.keys()


def test_on_several_devices_each_process_has_the_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert places(4, torch.device("cuda:1")) == ["cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert places(2, torch.device("cpu")) == ["cpu", "cpu"]
    with started(1, torch.device("cpu"), "no.such.program") as workers:
        assert workers is None


def test_what_no_worker_can_load_is_refused(made: Run, tmp_path: Path):
    with raises_error("model-in-memory", "in memory"):
        evaluate(made, tiny.model(), workers=2, cache=tmp_path)
    with raises_error("no-workers", 0):
        evaluate(made, tiny.model(), workers=0, cache=tmp_path)
