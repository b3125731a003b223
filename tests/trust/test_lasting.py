"""What happens to a folder or the cache while a command runs, and what is left when it cannot go on."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from raising import raises_error

import expunge
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.protocol import Protocol
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.files import write_atomically
from expunge.training.steps import Step

FEW = Protocol(target_seeds=1, prompts=2)
RESULT = ("delta.safetensors", "log.jsonl", "config.toml")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Run]:
    def run(folder: str = "run", store: str = "store", **given: object) -> Run:
        usual = {"training": tiny.TRAINING | {"checkpoint_every": 2}, "out": tmp_path / folder, "cache": Store(tmp_path / store)}
        return unlearn(tiny.model(), tiny.concept(), "esd", **usual | given)

    return run


def at_step(number: int, action: Callable[[], object]) -> dict[str, object]:
    """Progress that does something after a step."""

    def watch(steps: Iterator[Step], done: int, count: int) -> Iterator[Step]:
        for step in steps:
            if step.step == number:
                action()
            yield step

    return {"progress": tiny.watching(watch)}


def same(one: Run, other: Run) -> bool:
    return all((one.folder / name).read_bytes() == (other.folder / name).read_bytes() for name in RESULT)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def full_disk(monkeypatch: pytest.MonkeyPatch, holds: int) -> None:
    """From now on the disk has room for `holds` more files: the next write fails, as it does on a full disk, when it is flushed."""
    fsync, left = os.fsync, [holds]

    def flush(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", flush)


@pytest.mark.parametrize("holds", [0, 2, 3, 4])
def test_a_run_on_a_full_disk_leaves_whole_files_and_goes_on_later(made, holds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Full at the first card, at the cached images, at the first checkpoint, at the second."""
    with monkeypatch.context() as patch:
        full_disk(patch, holds)
        with raises_error("unwritten") as caught:
            made()
        assert "No space left" in str(caught.value)
    assert [name for name in files(tmp_path) if name.endswith(".part")] == []
    assert same(made(), made("straight", "another"))


def test_an_evaluation_on_a_full_disk_keeps_the_rows_of_the_one_before(made, monkeypatch: pytest.MonkeyPatch):
    run = made()
    evaluate(run, tiny.model(), judge="main", protocol=FEW, cache=Store(run.folder.parent / "store"))
    before = (run.folder / "evaluation" / "rows.jsonl").read_bytes()
    full_disk(monkeypatch, 3)
    with raises_error("unwritten"):
        evaluate(run, tiny.model(), judge="second", protocol=FEW, cache=Store(run.folder.parent / "store"))
    assert (run.folder / "evaluation" / "rows.jsonl").read_bytes() == before
    assert [name for name in files(run.folder) if name.endswith(".part") or "lock" in name] == []


def test_a_cache_that_is_deleted_meanwhile_changes_nothing(made, tmp_path: Path):
    deleted = made(**at_step(3, lambda: shutil.rmtree(tmp_path / "store")))
    assert same(deleted, made("straight", "another"))
    rows = evaluate(deleted, tiny.model(), judge="main", protocol=FEW, cache=Store(tmp_path / "store"))
    shutil.rmtree(tmp_path / "store")
    assert evaluate(deleted, tiny.model(), judge="main", protocol=FEW, cache=Store(tmp_path / "store")) == rows


def test_a_clock_that_jumps_back_changes_nothing(made, monkeypatch: pytest.MonkeyPatch):
    """By a day, in mid-run: `time.time` may jump, and `time.monotonic`, which measures seconds, may not."""
    plain, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: plain() + jump[0])
    run = made(**at_step(3, lambda: jump.append(jump.pop() - 86400)))
    assert same(run, made("straight", "another"))
    assert run.card["seconds"] >= 0


def test_a_file_of_the_future_is_left_alone(tmp_path: Path):
    """The clock of another machine runs ahead: what it is writing is no leftover."""
    other = tmp_path / ".a.txt.01234567.part"
    other.write_text("half")
    os.utime(other, (time.time() + 86400,) * 2)
    write_atomically(tmp_path / "b.txt", b"whole")
    assert files(tmp_path) == [other.name, "b.txt"]


def test_a_folder_that_cannot_be_written_is_named_before_work(made, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    steps = []
    with raises_error("unwritten", hint="Try another folder"):
        made("file/run", progress=tiny.watching(lambda *a: steps.append(a) or iter(())))
    assert steps == []
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_cache_that_cannot_be_written_names_its_variable(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "file" / "cache"))
    with raises_error("unwritten", hint="EXPUNGE_CACHE"):
        made(cache=None)


def test_a_finished_run_has_no_file_of_a_lock(made):
    assert [name for name in files(made().folder) if name.startswith(".")] == []


def test_a_wrong_judge_leaves_no_folder(made):
    run = made()
    with raises_error("unknown-judge"):
        evaluate(run, tiny.model(), judge="nobody", protocol=FEW)
    assert not (run.folder / "evaluation").exists()


def test_a_run_of_a_pipeline_in_memory_asks_for_it_to_be_measured(tmp_path: Path):
    run = expunge.unlearn(tiny.pipeline(), tiny.concept(), "uce", out=tmp_path / "run")
    with raises_error("model-in-memory", hint="model="):
        expunge.evaluate(run)
