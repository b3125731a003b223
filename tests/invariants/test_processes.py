"""Several processes that share a run are one process with as many times the accumulation."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import apart
import pytest
import tiny
import torch
from raising import raises_error

from expunge.methods.base import Training
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.tensors import read_tensors
from expunge.training.distributed import Processes, refuse_uneven

TRAINING = tiny.TRAINING | {"checkpoint_every": 2}

RUNS = {
    "mim-mu": {"method": "mim-mu", "training": TRAINING | {"accumulate": 1}},
    "noted": {"method": "f-dmu", "training": TRAINING | {"accumulate": 1}, "divergence": "js"},
    "uce": {"method": "uce"},
}
"""As two processes do them."""


def told(count: int) -> list[dict[str, str]]:
    """The environments by which a launcher tells so many processes who they are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    processes = [apart.start(apart.share, folder, own, RUNS) for own in told(2)]
    for process in processes:
        process.join(300)
    assert [p.exitcode for p in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one_with_twice_the_accumulation(name, shared, tmp_path):
    settings = RUNS[name]
    if "training" in settings:
        settings = settings | {"training": settings["training"] | {"accumulate": 2}}
    alone = unlearn(tiny.model(), tiny.concept(), out=tmp_path / "alone", cache=Store(tmp_path / "store"), **settings)
    for key, value in read_tensors(shared / name / "delta.safetensors").items():
        torch.testing.assert_close(value, alone.delta()[key], rtol=0, atol=1e-6)
    card = json.loads((shared / name / "card.json").read_text())
    assert (card["processes"], card["backwards"]) == (2, alone.card["backwards"])
    assert card["forwards"] >= alone.card["forwards"]  # a point that both meet has its reference computed by both
    if "training" in settings:
        assert losses(shared / name) == pytest.approx(losses(alone.folder), rel=1e-4)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_resumed_run_of_two_processes_ends_where_a_straight_one_does(shared):
    for file in ("delta.safetensors", "log.jsonl"):
        assert (shared / "resumed" / file).read_bytes() == (shared / "mim-mu" / file).read_bytes()
    assert sorted(p.name for p in (shared / "resumed").glob("[!.]*")) == ["card.json", "config.toml", "delta.safetensors", "log.jsonl"]


def test_only_the_main_process_writes_and_shows(shared):
    main, other = (json.loads((shared / f"{rank}.json").read_text()) for rank in (0, 1))
    assert {Path(name).parent.name for name in other["written"]} == {"1"}  # the reference rows that it computed, for resuming
    assert other["seen"] == []
    assert main["seen"][: TRAINING["steps"]] == list(range(1, TRAINING["steps"] + 1))
    assert len([n for n in main["written"] if n.startswith("store")]) == len(set(n for n in main["written"] if n.startswith("store"))) > 0
    for name in (*RUNS, "resumed"):
        assert main["written"].count(f"{name}/delta.safetensors") == 1


def test_a_batch_that_falls_into_unequal_parts_is_refused():
    refuse_uneven(Training(batch_size=12, accumulate=2), 3)
    with raises_error("uneven-batch", 16, "multiple of 6"):
        refuse_uneven(Training(batch_size=16, accumulate=2), 3)


def test_one_process_gives_back_what_it_is_given():
    alone, tensor, cpu = Processes(), torch.ones(2), torch.device("cpu")
    assert (alone.count, alone.rank, alone.is_main) == (1, 0, True)
    assert alone.mean(tensor) is tensor
    assert alone.same({"a": tensor})["a"] is tensor
    assert (alone.total(3), alone.agree(True), alone.agree(False)) == (3, True, False)
    assert [alone.accelerator(dtype, cpu).mixed_precision for dtype in ("bf16", "fp32")] == ["bf16", "no"]


def launch(count: int, *command: str | Path, **extra: str) -> list[subprocess.CompletedProcess]:
    """The same program once for each process."""
    common = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | extra
    program = [sys.executable, "-W", "ignore", *map(str, command)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(program, env=common | own, **pipes) for own in told(count)]
    done = []
    for process in started:
        try:
            out, error = process.communicate(timeout=300)
        finally:
            process.kill()
        done.append(subprocess.CompletedProcess(command, process.returncode, out, error))
    return done


@pytest.mark.slow
def test_a_launched_command_line_shares_a_run(tmp_path):
    """As torchrun starts it; `expunge bench` and its like share nothing and say so."""
    command = ("-m", "expunge", "unlearn", "mim-mu", "--target", "neon", "--steps", "2", "--points", "16", "--pictures", "4",
               "--device", "cpu", "--out", tmp_path / "run")  # fmt: skip
    main, other = launch(2, *command, EXPUNGE_CACHE=str(tmp_path / "cache"))
    assert (main.returncode, other.returncode) == (0, 0), other.stderr
    assert f"run     {tmp_path / 'run'}" in main.stdout
    assert other.stdout == ""
    assert json.loads((tmp_path / "run" / "card.json").read_text())["processes"] == 2
    refused = launch(2, "-m", "expunge", "bench", "canvas")
    assert [p.returncode for p in refused] == [2, 2]
    assert "several processes share a run" in refused[0].stderr
