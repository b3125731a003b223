"""Further processes that take part in sampling images or in an audit, on this machine or on a Ray cluster.

A program is a module with a function `do(job, device)`. A job is a JSON file in the cache, which all processes see. They share the job by
claims and locks in the cache, so a process that is lost leaves its part to the others. This file runs as the program of a process:
`python -m expunge.training.workers PROGRAM DEVICE` reads the path of a job from each line of its input, and ends with its input.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.training.cluster import connected, import_path


class Workers(Protocol):
    """Processes beside this one. Each loads the model, and does the parts of a job that no other process has claimed."""

    def send(self, job: str) -> None:
        """Gives all of them the path of a job."""


@dataclass(frozen=True)
class LocalWorkers:
    """Processes on this machine."""

    processes: tuple[subprocess.Popen, ...]

    def send(self, job: str) -> None:
        """Gives all of them a job. One that has ended is passed over: this process does what is left."""
        for process in self.processes:
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.write(f"{job}\n")
                process.stdin.flush()


@dataclass(frozen=True)
class RayWorkers:
    """Actors on a Ray cluster, whose machines all see the cache at the same path."""

    actors: tuple[Any, ...]

    def send(self, job: str) -> None:
        """Gives all of them a job. Nobody waits for them: what one leaves undone, this process does."""
        for actor in self.actors:
            actor.do.remote(job)


@contextmanager
def started(count: int, device: torch.device, program: str, address: str | None = None) -> Iterator[Workers | None]:
    """`count` processes in all, this one included, for as long as the context lasts; None if this is the only one.

    On CUDA the others take the next devices in turn. Each has as many threads as this one, since the number of threads may decide the
    last digits of an image: on a CPU set `OMP_NUM_THREADS` to the cores that each may use.

    Args:
        program: the module whose function `do` does a job.
        address: of a Ray cluster, which then has the others; each takes one of its GPUs if this process is on one.

    Raises:
        ExpungeError: Ray is not installed, or the cluster cannot be reached.
    """
    if count < 2:
        yield None
        return
    with _on_ray(count - 1, device, program, address) if address else _on_this_machine(count, device, program) as workers:
        yield workers


@contextmanager
def _on_this_machine(count: int, device: torch.device, program: str) -> Iterator[LocalWorkers]:
    environment = os.environ | import_path() | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "EXPUNGE_PROGRESS": "off"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, program, place],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
        )
        for place in places(count, device)[1:]
    ]  # fmt: skip
    try:
        yield LocalWorkers(tuple(processes))
    finally:
        for process in processes:  # whatever they are doing, the job is done
            process.terminate()
        for process in processes:
            process.wait()
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()


@contextmanager
def _on_ray(count: int, device: torch.device, program: str, address: str) -> Iterator[RayWorkers]:
    ray = connected(address)
    environment = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "EXPUNGE_PROGRESS": "off"}
    needs = {"num_cpus": 1, "num_gpus": int(device.type == "cuda"), "runtime_env": {"env_vars": environment}}
    # Ray shows an actor its own GPU alone, so that it is the first one there.
    actors = [ray.remote(_Actor).options(**needs).remote(program, device.type) for _ in range(count)]
    try:
        yield RayWorkers(tuple(actors))
    finally:
        for actor in actors:
            ray.kill(actor)


class _Actor:
    """A process on a Ray cluster."""

    def __init__(self, program: str, device: str) -> None:
        self.program, self.device = program, device

    def do(self, job: str) -> None:
        """Does the job of a path, unless others have done it meanwhile."""
        do(self.program, job, self.device)


def do(program: str, job: str, device: str) -> None:
    """Does the job of a path, unless others have done it meanwhile."""
    try:
        table = json.loads(Path(job).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    import_module(program).do(table, device)


def places(count: int, device: torch.device) -> list[str]:
    """The device of each process; the first is this one."""
    if device.type != "cuda":
        return [str(device)] * count
    first, devices = device.index or 0, torch.cuda.device_count()
    return [f"cuda:{(first + i) % devices}" for i in range(count)]


def refuse_workers(workers: int, model: DiffusionModel, address: str | None = None) -> None:
    """Refuses a number of workers that is none, a cluster for one process, and workers for a model that they cannot load.

    Raises:
        ExpungeError: rule "no-workers", "one-worker-on-a-cluster" or "model-in-memory".
    """
    if workers < 1:
        raise ExpungeError(f"{workers} processes do nothing.", rule="no-workers", value=workers, hint="Try 1 or more.")
    if workers == 1 and address:
        raise ExpungeError(
            f"The cluster {address} has nothing to do for one process.",
            rule="one-worker-on-a-cluster",
            value=address,
            hint="Try --workers with the number of processes, this one included, or leave --address out.",
        )
    if workers > 1 and not (model.defaults.folder or model.files):
        raise ExpungeError(
            "Other processes cannot load a pipeline that is in the memory of this one.",
            rule="model-in-memory",
            value=model.name,
            hint="Try to save it with save_pretrained and give the folder, or leave the workers out.",
        )


def main(program: str, device: str) -> None:
    """Does the jobs that the input names, until it ends or a job fails."""
    try:
        for line in sys.stdin:
            do(program, line.strip(), device)
    except ExpungeError as error:
        print(f"worker on {device}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
