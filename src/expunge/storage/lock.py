"""Locks between processes."""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from expunge.errors import ExpungeError
from expunge.storage.places import writable_instead

NOTE = ".writing"
"""In a folder of results while a process writes into it."""


@contextmanager
def taken(file: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process has to itself what `file` stands for; with `wait` it has, sooner or later.

    The system releases the lock when its process ends, however it ends. The lock is on a file beside; `file` has a line for each
    process that had it: its id, its host, and when it began.

    Raises:
        ExpungeError: the folder cannot be written.
    """
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise ExpungeError(
            f"{file.parent} cannot be written: {error.strerror}.",
            rule="unwritten",
            value=str(file.parent),
            hint=writable_instead(file.parent),
        ) from error
    try:
        with file.open("a", encoding="utf-8") as note:
            note.write(f"{os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        yield True
    finally:
        # While it is locked: another process that has opened it already sees that it has no name any more, and opens a new one.
        with suppress(OSError):  # Windows keeps a file that is open, and filelock removes it there
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def all_taken(files: Iterable[Path], wait: bool = False) -> Iterator[bool]:
    """Whether this process has all that `files` stand for to itself: all of it or nothing. See `taken`.

    Each process takes them in the same order, so that two that wait never wait for each other.
    """
    with ExitStack() as stack:
        is_mine = all(stack.enter_context(taken(file, wait)) for file in sorted(set(files)))
        if not is_mine:
            stack.close()  # before the caller does something else
        yield is_mine


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into a folder of results meanwhile. A new folder that stays empty is removed.

    Raises:
        ExpungeError: another process is writing into it.
    """
    note, is_new = folder / NOTE, not folder.exists()
    try:
        with taken(note) as is_mine:
            if not is_mine:
                raise in_use(folder)
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    finally:
        if is_new:
            with suppress(OSError):  # it has files
                folder.rmdir()


def in_use(folder: Path) -> ExpungeError:
    """The error for a folder that another process writes into, with what is known of that process."""
    try:
        *_, line = (folder / NOTE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        line = "of unknown number"
    return ExpungeError(
        f"Another process is working on {folder}: process {line}.",
        rule="in-use",
        value=str(folder),
        hint="Try again when it has ended, or another folder.",
    )
