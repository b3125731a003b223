"""Locks between processes."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def taken(file: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has to itself what `file` stands for; with `wait` it has, sooner or later.

    The system gives a lock back when its process ends, however it ends. The file keeps a line for each that took it: process id and
    time.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        lock.write(f"{os.getpid()} {time.time():.0f}\n")
        lock.flush()
        yield True
