"""Files are written whole, with the user's permissions; paths that files name stay inside their folder."""

import json
import math
import os
import stat
import time
from pathlib import Path

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.storage import files
from expunge.storage.files import append_line, folder_written_whole, inside, write_atomically, write_json, write_lines, written_whole
from expunge.storage.tensors import read_tensors, write_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`run/a.png`, a link of it within the folder, and links to a file and a folder beside it."""
    made = tmp_path / "run"
    made.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (made / "a.png").write_bytes(b"a")
    (made / "near.png").symlink_to("a.png")
    (made / "far.png").symlink_to(tmp_path / "secret.png")
    (made / "up").symlink_to("..")
    (made / "loop").symlink_to("loop")
    return made


@pytest.mark.parametrize("name", ["a.png", "new/b.png", "new/../a.png", "near.png"])
def test_a_name_inside_the_folder_is_a_path_in_it(folder: Path, name: str):
    assert inside(folder, name) == folder / name


def test_an_absolute_path_may_lead_inside(folder: Path):
    assert inside(folder, str(folder.resolve() / "a.png")).read_bytes() == b"a"


LEADING_OUT = ["../secret.png", "new/../../secret.png", "/etc/passwd", "far.png", "up/secret.png", "loop", "a\0b", "", ".", None, 3, ["a"]]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_name_that_leads_out_is_refused(folder: Path, name: object):
    with pytest.raises(ExpungeError) as refused:
        inside(folder, name)
    assert (refused.value.rule, refused.value.value) == ("path-escape", name)
    assert refused.value.hint.startswith("Try ")


def test_a_folder_may_be_reached_by_a_link(folder: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(folder)
    assert inside(tmp_path / "link", "a.png") == tmp_path / "link" / "a.png"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "a.json", b"{}")
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()} == {mode}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    def fill_up(file: Path) -> None:
        with written_whole(file) as beside:
            beside.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(ExpungeError) as failed:
        fill_up(tmp_path / "a")
    assert (failed.value.rule, failed.value.value) == ("unwritten", str(tmp_path / "a"))
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ExpungeError) as failed:
        write_atomically(tmp_path / "file" / "a", b"")
    assert (failed.value.rule, failed.value.value) == ("unwritten", str(tmp_path / "file" / "a"))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder with what killed processes left in it: a day ago, and just now."""
    for name, age in (("a.json", 2 * files.STALE), ("b.json", 0)):
        beside = files._temporary(tmp_path / name)
        beside.write_bytes(b"half")
        os.utime(beside, (time.time() - age,) * 2)
    old = files._temporary(tmp_path / "model")
    old.mkdir()
    (old / "unet.safetensors").write_bytes(b"half")
    os.utime(old, (time.time() - 2 * files.STALE,) * 2)
    (tmp_path / ".notes.part").touch()  # no file of ours
    os.utime(tmp_path / ".notes.part", (0, 0))
    files._clean.cache_clear()
    return tmp_path


def test_what_a_killed_process_left_is_removed_after_a_day(left: Path):
    write_atomically(left / "c.json", b"whole")
    names = sorted(f.name for f in left.iterdir())
    assert [n for n in names if not n.startswith(".b.json.")] == [".notes.part", "c.json"]
    assert len(names) == 3


def test_a_stale_temporary_is_never_a_part_of_the_new(tmp_path: Path):
    (tmp_path / ".model.part").mkdir()
    (tmp_path / ".model.part" / "safety_checker").touch()
    with folder_written_whole(tmp_path / "model") as beside:
        assert list(beside.iterdir()) == []
        (beside / "unet").touch()
    assert [f.name for f in (tmp_path / "model").iterdir()] == ["unet"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path):
    def stop(folder: Path) -> None:
        with folder_written_whole(folder) as beside:
            (beside / "unet").touch()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_as_it_always_was(tmp_path: Path):
    value = {"b": 1, "a": [math.nan, math.inf, 0.1, "é"]}
    write_json(tmp_path / "one.json", value)
    write_json(tmp_path / "two.json", value, indent=2)
    assert (tmp_path / "one.json").read_bytes() == (json.dumps(value, indent=1) + "\n").encode()
    assert (tmp_path / "two.json").read_bytes() == (json.dumps(value, indent=2) + "\n").encode()


def test_lines_are_written_and_appended_as_they_always_were(tmp_path: Path):
    rows = [{"b": 1, "a": math.nan}, {"x": None}]
    write_lines(tmp_path / "rows.jsonl", rows)
    assert (tmp_path / "rows.jsonl").read_text() == '{"b": 1, "a": NaN}\n{"x": null}\n'
    append_line(tmp_path / "rows.jsonl", {"y": 2})
    assert (tmp_path / "rows.jsonl").read_text().splitlines()[2:] == ['{"y": 2}']


def test_tensors_are_read_back(tmp_path: Path):
    write_tensors(tmp_path / "x.safetensors", {"x": torch.arange(3.0)})
    assert read_tensors(tmp_path / "x.safetensors")["x"].tolist() == [0, 1, 2]
