"""Further processes on this machine that take part in sampling images."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

PROGRAM = "expunge.evaluation.worker"


@dataclass(frozen=True)
class Workers:
    """Processes beside this one. Each loads the model, and samples batches that no other process has claimed."""

    processes: tuple[subprocess.Popen, ...]

    def send(self, job: str) -> None:
        """Gives all of them a job. One that has ended is passed over: this process does what is left."""
        for process in self.processes:
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.write(f"{job}\n")
                process.stdin.flush()


@contextmanager
def started(count: int, device: torch.device) -> Iterator[Workers | None]:
    """`count` processes in all, this one included, for as long as the context lasts; None if this is the only one.

    On CUDA the others take the next devices in turn. Each has as many threads as this one, since the number of threads may decide the
    last digits of an image: on a CPU set `OMP_NUM_THREADS` to the cores that each may use.
    """
    if count < 2:
        yield None
        return
    environment = os.environ | {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "EXPUNGE_PROGRESS": "off",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", PROGRAM, place], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        for place in places(count, device)[1:]
    ]
    try:
        yield Workers(tuple(processes))
    finally:
        for process in processes:  # whatever they are doing, all images are there
            process.terminate()
        for process in processes:
            process.wait()
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()


def places(count: int, device: torch.device) -> list[str]:
    """The device of each process; the first is this one."""
    if device.type != "cuda":
        return [str(device)] * count
    first, devices = device.index or 0, torch.cuda.device_count()
    return [f"cuda:{(first + i) % devices}" for i in range(count)]
