"""Two processes in one folder: one works, and the other is told which."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from expunge.errors import ExpungeError
from expunge.storage.lock import NOTE, all_taken, alone_in, taken

CONTEXT = multiprocessing.get_context("spawn")


def hold(file: Path, parent: Connection) -> None:
    with taken(file) as is_mine:
        parent.send(is_mine)
        parent.poll(60)  # until the other end is closed


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[SpawnProcess, Connection]]:
    """`tmp_path / "a"` while another process has it: the process, and a connection whose end makes it let go."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=hold, args=(tmp_path / "a", there))
    process.start()
    there.close()
    assert here.recv() is True
    yield process, here
    here.close()
    process.join()


def test_what_another_process_has_is_not_taken(held, tmp_path: Path):
    with taken(tmp_path / "a") as is_mine:
        assert not is_mine
    with taken(tmp_path / "b") as is_mine:
        assert is_mine
    assert int((tmp_path / "a").read_text().split()[0]) == held[0].pid


def test_one_may_wait_for_it(held, tmp_path: Path):
    process, connection = held
    connection.close()
    with taken(tmp_path / "a", wait=True) as is_mine:
        assert is_mine
        assert [int(line.split()[0]) for line in (tmp_path / "a").read_text().splitlines()] == [process.pid, os.getpid()]


def test_a_killed_process_lets_go(held, tmp_path: Path):
    os.kill(held[0].pid, signal.SIGKILL)
    held[0].join()
    with taken(tmp_path / "a") as is_mine:
        assert is_mine


def test_within_a_process_it_is_taken_once(tmp_path: Path):
    with taken(tmp_path / "a") as first, taken(tmp_path / "a") as second:
        assert (first, second) == (True, False)
    with taken(tmp_path / "a") as again:
        assert again


def test_several_are_taken_together_or_not_at_all(held, tmp_path: Path):
    with all_taken([tmp_path / "0", tmp_path / "a", tmp_path / "b"]) as is_mine, taken(tmp_path / "0") as is_free:
        assert (is_mine, is_free) == (False, True)
    with all_taken([tmp_path / "b", tmp_path / "0", tmp_path / "b"]) as is_mine, taken(tmp_path / "0") as is_free:
        assert (is_mine, is_free) == (True, False)


def test_the_error_says_who_is_at_work(tmp_path: Path):
    with alone_in(tmp_path):
        with pytest.raises(ExpungeError) as refused, alone_in(tmp_path):
            pass
        assert (refused.value.rule, refused.value.value) == ("in-use", str(tmp_path))
        assert f"process {os.getpid()} on " in str(refused.value)
        assert f"{time.localtime().tm_year}-" in str(refused.value)
    with alone_in(tmp_path):
        pass
    assert not (tmp_path / NOTE).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ExpungeError) as refused, alone_in(tmp_path / "file"):
        pass
    assert (refused.value.rule, refused.value.value) == ("unwritten", str(tmp_path / "file"))
