"""Experiment trackers get what the log of a run has, and change nothing of the run."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import tiny
import torch
from accelerate import tracking
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import LoggerType
from raising import raises_error
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from expunge.errors import ExpungeWarning
from expunge.runs.run import Run
from expunge.runs.trackers import find_trackers
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.distributed import Processes, state_of_its_own

SCHEDULE = {"schedule": "cosine", "warmup": 2, "checkpoint_every": 2}
COSINE = [0.0, 5e-4, 1e-3, 1e-3 * (1 + 0.5**0.5) / 2, 5e-4, 1e-3 * (1 - 0.5**0.5) / 2]
"""The learning rates of these settings: two steps of warm-up, then half a cosine."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def run(folder: Path, store: Store, *track: str, watch=None, method: str = "mim-mu") -> Run:
    training = None if method == "uce" else tiny.TRAINING | SCHEDULE
    return unlearn(
        tiny.model(), tiny.concept(), method, training=training, out=folder, cache=store, progress=tiny.watching(watch), track=track
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run without a tracker."""
    return run(tmp_path_factory.mktemp("plain") / "run", store)


def weights(made: Run) -> bytes:
    return (made.folder / "delta.safetensors").read_bytes()


def logged(made: Run) -> list[dict]:
    return [json.loads(line) for line in (made.folder / "log.jsonl").read_text().splitlines()]


def shown(made: Run) -> EventAccumulator:
    return EventAccumulator(str(made.folder / "tensorboard" / "expunge")).Reload()


def interrupt(steps, start, total):
    for step in steps:
        yield step
        if step.step == 5:
            raise InterruptedError


@pytest.fixture(scope="module")
def resumed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with TensorBoard, killed after step 5 with a checkpoint of step 4."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    with pytest.raises(InterruptedError):
        run(folder, store, "tensorboard", watch=interrupt)
    return run(folder, store, "tensorboard")


def test_a_tracker_does_not_change_the_run(plain: Run, resumed: Run):
    assert resumed.id == plain.id
    assert weights(resumed) == weights(plain)
    assert logged(resumed) == logged(plain)


def test_each_step_is_shown_once_with_the_numbers_of_the_log(resumed: Run):
    """Step 5, which the first attempt has logged and lost, too."""
    found, rows = shown(resumed), logged(resumed)
    names = {f"terms/{name}" for name in rows[0]["terms"]}
    assert len(names) > 1
    assert set(found.Tags()["scalars"]) == names | {"loss", "grad_norm", "lr"}
    expected = {"loss": [r["loss"] for r in rows], "grad_norm": [r["grad_norm"] for r in rows], "lr": COSINE}
    expected |= {f"terms/{name}": [r["terms"][name] for r in rows] for name in rows[0]["terms"]}
    for name, values in expected.items():
        events = found.Scalars(name)
        assert [e.step for e in events] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose([e.value for e in events], values, rtol=1e-6)  # the file has them in float32


def test_the_configuration_is_the_cards(resumed: Run):
    texts = [file.read_text() for file in (resumed.folder / "tensorboard").rglob("hparams.yml")]
    assert len(texts) == 2  # of each attempt
    for line in (f"id: {resumed.id}", "method: mim-mu", "training.lr: 0.001", "concept.target: neon", "training.whiten_layers: false"):
        assert all(line in text.splitlines() for text in texts), line


def test_an_edit_and_a_finished_run_log_nothing(plain: Run, store: Store, tmp_path: Path):
    assert run(plain.folder, store, "tensorboard").id == plain.id
    edited = run(tmp_path / "edit", store, "tensorboard", method="uce")
    assert not [p for folder in (plain.folder, edited.folder) for p in folder.rglob("*tensorboard*")]


def test_unknown_and_missing_trackers_are_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch):
    with raises_error("unknown-tracker", "tensorbord", "Try 'tensorboard'"):
        unlearn("no such model", "neon", track="tensorbord")
    monkeypatch.setattr("expunge.runs.trackers.installed_trackers", frozenset)
    with raises_error("missing-package", "wandb", "pip install wandb"):
        unlearn("no such model", "neon", track=["wandb"])


def test_a_tracker_is_started_once():
    assert find_trackers(["tensorboard", "tensorboard"]) == ("tensorboard",)


@contextmanager
def tensorboard(folder: Path) -> Iterator[Callable[[dict[str, float], int], None]]:
    with state_of_its_own(), Processes().tracked(["tensorboard"], torch.device("cpu"), folder, {"seed": 0}, {}) as log:
        yield log


def test_a_tracker_that_cannot_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TensorBoardTracker, "start", MagicMock(side_effect=ConnectionError("no answer")))
    with raises_error("tracker-failed", ("tensorboard",), "--track"), tensorboard(tmp_path):
        pytest.fail("started")


def test_a_tracker_that_fails_later_warns_and_is_used_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fails, finish = MagicMock(side_effect=[None, ConnectionError("gone")]), MagicMock(side_effect=ConnectionError("gone"))
    monkeypatch.setattr(TensorBoardTracker, "log", fails)
    with tensorboard(tmp_path) as log:
        log({"loss": 1.0}, 1)
        with pytest.warns(ExpungeWarning, match="tensorboard failed at step 2"):
            log({"loss": 1.0}, 2)
        log({"loss": 1.0}, 3)
    assert fails.call_count == 2
    monkeypatch.setattr(TensorBoardTracker, "finish", finish)
    with pytest.warns(ExpungeWarning, match="tensorboard"), tensorboard(tmp_path):
        pass


def test_services_get_a_run_with_the_runs_id(plain: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Their packages are stand-ins here: none is contacted."""
    wandb, mlflow = MagicMock(), MagicMock()
    mlflow.utils.validation = MagicMock(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=1000)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.WANDB, LoggerType.MLFLOW])
    made = run(tmp_path / "run", store, "wandb", "mlflow")
    wandb.init.assert_called_once_with(project="expunge", name=made.id, dir=str(made.folder))
    assert mlflow.start_run.call_args.kwargs["run_name"] == made.id
    steps = [call.kwargs["step"] for call in wandb.init().log.call_args_list]
    assert steps == [call.kwargs["step"] for call in mlflow.log_metrics.call_args_list] == [1, 2, 3, 4, 5, 6]
    assert [call.args[0]["loss"] for call in wandb.init().log.call_args_list] == [row["loss"] for row in logged(plain)]
    assert mlflow.log_params.call_args.args[0]["training.lr"] == 1e-3
    wandb.init().finish.assert_called_once_with()
    mlflow.end_run.assert_called_once_with()


def test_other_processes_than_the_main_one_start_none(tmp_path: Path):
    second = Processes()
    second.rank = 1
    with second.tracked(["tensorboard"], torch.device("cpu"), tmp_path, {}, {}) as log:
        log({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())
