"""Ends a command that a scheduler terminates (SIGTERM): at once, or after the training step that it is in."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + 15
"""Exit code of a command that SIGTERM ended, as shells give it."""


class Terminated(SystemExit):
    """SIGTERM arrived. No `except Exception` catches it."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class _State:
    is_deferred = False
    has_arrived = False


@contextmanager
def terminable() -> Iterator[None]:
    """Makes SIGTERM raise `Terminated` for as long as the context lasts. In another thread than the main one it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def arrive(number: int, frame: FrameType | None) -> None:
        _State.has_arrived = True
        if not _State.is_deferred:
            raise Terminated

    before = signal.signal(signal.SIGTERM, arrive)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _State.has_arrived = False


@contextmanager
def deferred() -> Iterator[None]:
    """Lets what is inside end before `Terminated` is raised. Use it for what must not be cut in two."""
    _State.is_deferred = True
    try:
        yield
    finally:
        _State.is_deferred = False
    if _State.has_arrived:
        raise Terminated


def is_terminating() -> bool:
    """Whether SIGTERM has arrived and waits for the end of `deferred`."""
    return _State.has_arrived
