"""`expunge purge`: nothing that shows the concept stays in the run's folder or in the cache, and nothing else goes."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from raising import raises_error

from expunge.cli.app import main
from expunge.runs.purge import find_shown, purge
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.pruning import prompts_of
from expunge.training.banks import pictured


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("trained")
    training = tiny.TRAINING | {"retain_pictures": 8}
    run = unlearn(tiny.model(), tiny.concept(), "esd", training=training, out=folder / "run", cache=Store(folder / "cache"))
    pictured(tiny.session(cache=Store(folder / "cache")), "retain", ["a ring in dots style"], [1])
    pictured(tiny.session(cache=Store(folder / "cache")), "retain", ["a ring in glow style"], [1])  # another name of the concept
    return run, folder / "cache"


@pytest.fixture
def made(trained, tmp_path) -> tuple[Run, Path]:
    run, cache = trained
    return Run(shutil.copytree(run.folder, tmp_path / "run")), shutil.copytree(cache, tmp_path / "cache")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def entries(cache: Path) -> list[list[str] | None]:
    return sorted(map(prompts_of, cache.glob("??/*.safetensors")), key=str)


def test_what_training_cached_of_the_concept_goes_and_the_rest_stays(made):
    run, cache = made
    assert len(entries(cache)) == 3
    assert any("neon" in prompt for prompts in entries(cache) for prompt in prompts)
    purge(run, cache)
    assert entries(cache) == [["a ring in dots style"]]
    assert torch.isfinite(next(iter(run.delta().values()))).all()


def test_an_entry_that_does_not_say_what_it_shows_goes_too(made):
    run, cache = made
    Store(cache).put("0" * 32, {"x": torch.ones(1)})
    Store(cache).put("1" * 32, {"x": torch.ones(1)}, shows=())
    purge(run, cache)
    assert entries(cache) == [["a ring in dots style"], []]


def test_every_image_and_page_of_the_run_goes_and_its_numbers_stay(made):
    run, cache = made
    shown = ["evaluation/pictures/0.png", "audit/pictures/a.PNG", "audit/index.html", "audit/work/x/state.safetensors", "information/m.jpg"]
    numbers = ["evaluation/rows.jsonl", "evaluation/samples.jsonl", "audit/cells/x.json", "audit/audit.json"]
    before = files(run.folder)
    for name in (*shown, *numbers):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_bytes(b"x")
    purge(run, cache)
    assert files(run.folder) - {".writing", ".writing.lock"} == before | set(numbers)


def test_results_of_controls_go_by_their_concept(made):
    run, cache = made
    (cache / "audits").mkdir()
    (cache / "pictures").mkdir()
    for name, concept in (("a", "neon"), ("b", "dots")):
        (cache / "audits" / f"{name}.json").write_text(
            json.dumps({"concept": concept, "readings": [{"shown": [{"picture": f"{name}.png"}]}]})
        )
        (cache / "pictures" / f"{name}.png").touch()
    (cache / "audits" / "broken.json").write_text("{")
    purge(run, cache)
    assert files(cache / "audits") | files(cache / "pictures") == {"b.json", "b.png"}


def test_without_yes_it_lists_and_deletes_nothing(made, capsys):
    run, cache = made
    before = files(cache)
    assert main(["purge", str(run.folder), "--cache", str(cache)]) == 0
    said = capsys.readouterr().out
    listed = find_shown(run, cache)
    assert len(listed) == 2
    assert all(str(shown.path) in said for shown in listed)
    assert "to delete  2 files" in said
    assert files(cache) == before
    assert main(["purge", str(run.folder), "--cache", str(cache), "--yes"]) == 0
    assert "deleted  2 files" in capsys.readouterr().out
    assert find_shown(run, cache) == []


def test_no_run_is_purged(tmp_path):
    with raises_error("no-run", str(tmp_path)):
        purge(tmp_path, tmp_path)
