"""The cache's contents by kind, size and age, what of them is deleted, and the limit on its size."""

import os
from pathlib import Path

import pytest
import torch
from cli.commandline import say
from raising import raises_error

from expunge.storage.cache import Store
from expunge.storage.pruning import LIMIT, delete, entries, read_age, read_size, select

NOW = 1_600_000_000.0
DAY = 86_400.0
PAYLOAD = 1000
"""Numbers of float32 in each entry."""


def put(root: Path, key: str, name: str, days: float) -> Path:
    """An entry with one tensor, last used so many days before `NOW`."""
    store = Store(root)
    store.put(key, {name: torch.zeros(PAYLOAD)})
    os.utime(store.path(key), (NOW - days * DAY,) * 2)
    return store.path(key)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Latents of 40 days, trajectories of 10, predictions of 1, and a picture of 20."""
    put(tmp_path, "aa1", "x_0", 40)
    put(tmp_path, "bb2", "x_t", 10)
    put(tmp_path, "cc3", "given", 1)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "d.png").write_bytes(bytes(100))
    os.utime(tmp_path / "pictures" / "d.png", (NOW - 20 * DAY,) * 2)
    (tmp_path / "fingerprints").mkdir()
    (tmp_path / "fingerprints" / "e").write_text("no entry")
    return tmp_path


def test_entries_are_listed_with_kind_and_size_the_least_recently_used_first(root: Path):
    found = entries(root)
    assert [e.kind for e in found] == ["latents", "pictures", "trajectories", "predictions"]
    assert [round((NOW - e.used) / DAY) for e in found] == [40, 20, 10, 1]
    assert found[1].size == 100
    assert found[0].size == found[0].path.stat().st_size > 4 * PAYLOAD


def test_a_damaged_file_is_an_entry_too(root: Path):
    (root / "aa" / "aa9.safetensors").write_bytes(b"\xff" * 20)
    assert [e.size for e in entries(root) if e.path.stem == "aa9"] == [20]


def test_what_another_process_deleted_frees_nothing(root: Path):
    found = entries(root)
    assert delete([found[1], found[1]]) == 100
    assert len(entries(root)) == 3


@pytest.mark.parametrize(
    ("limits", "kinds"),
    [
        ({"older_than": 15 * DAY}, ["latents", "pictures"]),
        ({"older_than": 15 * DAY, "keep": ["latents"]}, ["pictures"]),
        ({"older_than": 100 * DAY}, []),
        ({"max_size": 0}, ["latents", "pictures", "trajectories", "predictions"]),
        ({"max_size": 10_000}, ["latents"]),
        ({"max_size": 10_000, "keep": ["latents"]}, ["pictures", "trajectories"]),
        ({"max_size": 10_000, "older_than": 5 * DAY}, ["latents", "pictures", "trajectories"]),
        ({"max_size": 10**9}, []),
    ],
)
def test_what_is_deleted(root: Path, limits: dict, kinds: list[str]):
    assert [e.kind for e in select(entries(root), now=NOW, **limits)] == kinds


def test_reading_an_entry_makes_it_recent(root: Path):
    assert Store(root).get("aa1") is not None
    assert entries(root)[-1].kind == "latents"


def test_a_store_keeps_within_its_limit(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(LIMIT, "9KB")
    assert Store(root).limit == 9000
    Store(root).put("ff4", {"x_0": torch.ones(PAYLOAD)})
    assert [e.path.stem for e in entries(root)] == ["cc3", "ff4"]
    assert Store(root).get("ff4")["x_0"].sum() == PAYLOAD


def test_without_a_limit_nothing_is_deleted(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(LIMIT, raising=False)
    Store(root).put("ff4", {"x_0": torch.ones(PAYLOAD)})
    assert len(entries(root)) == 5


@pytest.mark.parametrize(("text", "octets"), [("0", 0), ("20GB", 20 * 10**9), ("512MiB", 512 * 2**20), (" 1.5 kb ", 1500)])
def test_sizes(text: str, octets: int):
    assert read_size(text, "it") == octets


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY), ("12h", DAY / 2), ("2w", 14 * DAY), ("1.5 m", 90.0)])
def test_ages(text: str, seconds: float):
    assert read_age(text, "it") == seconds


@pytest.mark.parametrize("text", ["", "much", "3", "-3d", "3y"])
def test_bad_ages(text: str):
    with raises_error("age", text):
        read_age(text, "it")


@pytest.mark.parametrize("text", ["", "much", "-3GB", "3XB"])
def test_bad_sizes(text: str):
    with raises_error("size", text):
        read_size(text, "it")


def test_a_bad_limit_is_refused_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(LIMIT, "much")
    with raises_error("size", "much"):
        Store(tmp_path)


def test_the_command_lists_and_prunes(root: Path):
    listed = say("cache", "ls", "--folder", root)
    assert listed.code == 0
    rows = {line.split()[0]: line.split()[1] for line in listed.out.splitlines() if len(line.split()) > 1}
    assert {rows[kind] for kind in ("latents", "trajectories", "predictions", "pictures")} == {"1"}
    assert rows["all"] == "4"
    before = len(entries(root))
    assert say("cache", "prune", "--max-size", "0", "--dry-run", "--folder", root).code == 0
    assert len(entries(root)) == before
    assert "deleted 3 files" in say("cache", "prune", "--max-size", "0", "--keep", "latents", "--folder", root).out
    assert [e.kind for e in entries(root)] == ["latents"]
    assert "nothing is cached" in say("cache", "ls", "--folder", root / "none").out


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (("sweep",), "unknown-action"),
        (("prune",), "nothing-to-prune"),
        (("prune", "--max-size", "much"), "size"),
        (("prune", "--older-than", "much"), "age"),
        (("prune", "--max-size", "0", "--keep", "latent"), "unknown-kind-of-entry"),
        (("ls", "--max-size", "0"), "option-of-prune"),
    ],
)
def test_mistakes(root: Path, given: tuple[str, ...], rule: str):
    assert say("cache", *given, "--folder", root).refusal.rule == rule
    assert len(entries(root)) == 4
