"""Processes of their own, to be killed or to share a run: forked from a server that imports once what takes long to import."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import tiny
from torch import Tensor

from expunge.evaluation.evaluate import evaluate
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.loop import Trainer
from expunge.training.steps import Step

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["apart"])


tiny.hasten()


def start(function: Callable, *arguments: object) -> BaseProcess:
    """Runs a function of this file in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:  # for the server, which the first call starts
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("OMP_NUM_THREADS", "1")
        process = FORKS.Process(target=function, args=arguments)
        process.start()
    return process


# --- one, to be killed -----------------------------------------------------------------------------------------------------


def killed(folder: Path, after: int, concepts: Sequence[str], settings: dict) -> None:
    """Removes concepts from the tiny model and is killed, by SIGKILL, a moment after so many steps."""
    told, tell = FORKS.Pipe(duplex=False)
    process = start(_telling, tell, folder, concepts, settings)
    tell.close()
    for _ in range(after):
        told.recv()
    time.sleep(0.003 * after)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def finished(folder: Path, concepts: Sequence[str], settings: dict) -> None:
    """The same, left alone."""
    process = start(_telling, None, folder, concepts, settings)
    process.join()
    assert process.exitcode == 0


def _telling(tell: Connection | None, folder: Path, concepts: Sequence[str], settings: dict) -> None:
    def watch(steps: Iterator[Step], start: int, total: int) -> Iterator[Step]:
        for step in steps:
            if tell:
                tell.send(step.step)
            yield step

    subject = [tiny.concept(name) for name in concepts]
    unlearn(tiny.model(), subject, out=folder, cache=Store(folder.parent / "store"), progress=tiny.watching(watch), **settings)


# --- several, that share a run ----------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def share(folder: Path, environment: dict[str, str], runs: dict[str, dict]) -> None:
    """Makes each of `runs` as one process of several; the first a second time, interrupted. Leaves what it wrote and showed behind."""
    os.environ |= environment
    rank, written, seen = environment["RANK"], [], []
    replace, fit = os.replace, Trainer.fit

    def noted(beside: Path, path: Path) -> None:
        written.append(str(Path(path).relative_to(folder)))
        replace(beside, path)

    def watch(steps: Iterator[Step], start: int, total: int) -> Iterator[Step]:
        for step in steps:
            seen.append(step.step)
            yield step

    def stopping(self: Trainer) -> Iterator[Step]:
        for step in fit(self):
            yield step
            if step.step == 3:
                raise Interrupted

    def made(name: str, settings: dict) -> None:
        unlearn(tiny.model(), tiny.concept(), out=folder / name, cache=Store(folder / "store"), progress=tiny.watching(watch), **settings)

    os.replace = noted
    for name, settings in runs.items():
        made(name, settings)
    Trainer.fit = stopping
    again = next(iter(runs.values()))
    try:
        made("resumed", again)
    except Interrupted:
        Trainer.fit = fit
        made("resumed", again)
    (folder / f"{rank}.json").write_text(json.dumps({"written": written, "seen": seen}))


# --- several, that share images ---------------------------------------------------------------------------------------------


def measure(run: Path, cache: Path, note: Path, environment: dict[str, str], given: dict) -> None:
    """Evaluates a run, and notes how many rows there are and which prompts and seeds it sampled."""
    os.environ |= environment
    sampled, sample = [], DiffusionModel.sample

    def noted(self: DiffusionModel, prompts: list[str], seeds: list[int], sampler: Sampler) -> Tensor:
        sampled.extend(zip(prompts, seeds, strict=True))
        return sample(self, prompts, seeds, sampler)

    DiffusionModel.sample = noted
    rows = evaluate(run, cache=cache, **given)
    note.write_text(json.dumps({"rows": len(rows), "sampled": sampled}))
