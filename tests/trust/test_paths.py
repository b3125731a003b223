"""A folder of results that comes from someone else names no file outside itself that a command would read."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from expunge.audits.cells import ExampleImage, Reading, Result, ResultStore
from expunge.errors import ExpungeError
from expunge.runs.run import Run
from expunge.storage.cache import Store

ESCAPES = ["../../../secret.png", "/etc/hostname", "link.png", "up/secret.png"]


def refused(read: Callable[[], object], name: str) -> None:
    with pytest.raises(ExpungeError) as error:
        read()
    assert (error.value.rule, error.value.value) == ("path-escape", name)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder three levels below a secret."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def cell(picture: str, cell: str = "c0") -> Result:
    shown = ExampleImage("a ring", 0, picture, "neon", True)
    return Result(cell, "relearn", {}, "steps", "", "", "neon", ("main",), (Reading(0, 1, {"main": 1}, (shown,)),), 0, 0, 0.0)


def kept(run: Path, result: Result, name: str = "c0", shared: bool = False) -> ResultStore:
    """Cells as they lie in a run's folder, or among what audits share."""
    made = ResultStore(run / "audit", Store(run / "store"))
    root = made.store.root / "audits" if shared else made.folder / "cells"
    pictures = made.store.root / "pictures" if shared else made.pictures
    for folder in (root, pictures):
        folder.mkdir(parents=True)
    (pictures / "link.png").symlink_to(run.parent / "secret.png")
    (pictures / "up").symlink_to(run.parent)
    (pictures / "own.png").write_bytes(b"own")
    (root / f"{name}.json").write_text(json.dumps(asdict(result)))
    return made


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("shared", [False, True])
def test_an_audit_reads_no_picture_outside_its_folder(secret: Path, name: str, shared: bool):
    found = kept(secret, cell(name), shared=shared)
    refused(lambda: found.find("c0"), name)
    refused(lambda: found.take("c0"), name)


@pytest.mark.parametrize("shared", [False, True])
def test_an_audit_reads_its_own_pictures(secret: Path, shared: bool):
    assert kept(secret, cell("own.png"), shared=shared).take("c0") == cell("own.png")


@pytest.mark.parametrize("other", ["../../../..", "c1"])
def test_a_result_under_the_name_of_another_is_done_again(secret: Path, other: str):
    """Its id names the folder of the cell's checkpoints, which is deleted when the cell is done."""
    assert kept(secret, cell("own.png", other), shared=True).take("c0") is None
    assert (secret.parent / "secret.png").exists()


@pytest.mark.parametrize("name", ["../other", "/etc", "up/other", "link"])
def test_a_run_has_no_stage_outside_its_folder(secret: Path, name: str):
    other = secret.parent / "other"
    other.mkdir()
    (secret / "up").symlink_to(secret.parent)
    (secret / "link").symlink_to(other)
    card = {"id": "r", "method": "uce", "concept": {}, "model": {}, "seed": 0, "dtype": "fp32", "status": "done"}
    (other / "card.json").write_text(json.dumps(card))
    (secret / "card.json").write_text(json.dumps(card | {"stages": [{"id": "s", "folder": name}]}))
    refused(lambda: Run(secret).stages, name)


def test_a_run_has_the_stages_in_its_folder(secret: Path):
    card = {"id": "r", "method": "uce", "concept": {}, "model": {}, "seed": 0, "dtype": "fp32", "status": "done"}
    (secret / "card.json").write_text(json.dumps(card | {"stages": [{"id": "s", "folder": "stages/01-neon"}]}))
    assert Run(secret).stages == (Run(secret / "stages" / "01-neon"),)
