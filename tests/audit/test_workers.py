"""Audits that several processes share: their results are those of one process."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import tiny
from audit.conftest import SAMPLER, budget
from audit.toys import CALLS
from raising import raises_error

from expunge.audits import worker
from expunge.audits.setup import conclude, prepare
from expunge.audits.worker import do, run
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.training.workers import LocalWorkers


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model in a folder, which other processes can load."""
    folder = tmp_path_factory.mktemp("shared")
    tiny.pipeline().save_pretrained(folder / "model")
    return unlearn(str(folder / "model"), tiny.concept(), "uce", out=folder / "run", cache=folder / "cache", device="cpu")


class Elsewhere(LocalWorkers):
    """A worker that does the whole job at once, in this process."""

    def send(self, job: str) -> None:
        self.given.append(json.loads(Path(job).read_text()))
        self.given.append(do(json.loads(Path(job).read_text()), "cpu"))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list:
    """What a worker is given, and how many readings it makes of it."""
    Elsewhere.given = []
    monkeypatch.setattr(worker, "started", lambda count, *given: nullcontext(Elsewhere(()) if count > 1 else None))
    return Elsewhere.given


def prepared(saved: Run, folder: Path, **given: object):
    toys = budget("Nothing", "Undo")
    usual = {"allow_code": True, "sampler": SAMPLER, "cache": folder / "cache", "out": folder / "audit", "device": "cpu", "control": "none"}
    return prepare(saved, toys, **usual | given)


def test_a_worker_finds_the_results_of_one_process(saved: Run, tmp_path: Path, elsewhere: list):
    alone = prepared(saved, tmp_path / "alone")
    events = list(run(alone))
    found = conclude(alone, events)
    CALLS.clear()
    shared = prepared(saved, tmp_path / "shared")
    assert list(run(shared, workers=2)) == []  # the worker was first at every cell
    job, readings = elsewhere
    assert readings == len(events) == 10
    assert len(CALLS) == len(shared.cells) == 4
    assert job["recipe"]["out"] == str(tmp_path / "shared" / "audit")
    both = conclude(shared)
    assert [{**r, "seconds": 0} for r in rows(both)] == [{**r, "seconds": 0} for r in rows(found)]
    assert not list((tmp_path / "shared" / "cache" / "claims").glob("*"))


def rows(audit) -> list[dict]:
    return [json.loads(line) for line in (audit.folder / "rows.jsonl").read_text().splitlines()]


def test_a_worker_that_would_do_other_cells_says_so(saved: Run, tmp_path: Path):
    recipe = dict(prepared(saved, tmp_path).recipe)
    with raises_error("other-cells", "cpu"):
        do({"recipe": recipe, "cells": "of another version"}, "cpu")


def test_a_pipeline_in_memory_has_one_process(saved: Run, tmp_path: Path):
    with raises_error("model-in-memory", "in memory"):
        list(run(prepared(saved, tmp_path, model=tiny.pipeline()), workers=2))
