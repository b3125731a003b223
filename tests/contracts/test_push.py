"""`expunge push`: what goes to the hub, seen by a stand-in of its client. Nothing leaves this machine."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tiny
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from raising import raises_error

from expunge.cli.app import main
from expunge.runs.export import push
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store


class Hub:
    """A hub that keeps what is uploaded in a folder, as the real client would choose it."""

    def __init__(self, folder: Path):
        self.folder, self.calls = folder, []

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, *, folder_path: Path, repo_id: str, ignore_patterns: list[str], commit_message: str) -> None:
        names = [file.relative_to(folder_path).as_posix() for file in Path(folder_path).rglob("*") if file.is_file()]
        for name in filter_repo_objects(names, ignore_patterns=ignore_patterns):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder_path) / name, self.folder / name)
        self.calls.append(("upload", repo_id, commit_message))

    @property
    def files(self) -> dict[str, int]:
        return {file.relative_to(self.folder).as_posix(): file.stat().st_size for file in self.folder.rglob("*") if file.is_file()}


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.pipeline().save_pretrained(folder)
    (folder / "vae" / "sample.png").write_bytes(b"a picture")
    made = unlearn(folder, tiny.concept(), "uce", out=tmp_path_factory.mktemp("run") / "run", cache=Store.default())
    (made.folder / "evaluation" / "pictures").mkdir(parents=True)
    (made.folder / "evaluation" / "pictures" / "neon.png").write_bytes(b"a picture of the concept")
    return made


def test_the_merged_model_is_uploaded_with_its_card_and_without_pictures(run, hub):
    listed = push(run, "me/no-neon", private=True)
    assert hub.calls == [("create", "me/no-neon", True, True), ("upload", "me/no-neon", f"{run.id}, by expunge")]
    assert hub.files == {file.name: file.size for file in listed}
    assert {"README.md", "expunge.json", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= hub.files.keys()
    assert [name for name in hub.files if name.endswith(".png")] == []
    card = (hub.folder / "README.md").read_text()
    assert 'from_pretrained("me/no-neon")' in card
    assert str(Path(run.card.model).parent) not in card + (hub.folder / "expunge.json").read_text()


def test_a_lora_is_uploaded_alone(run, hub):
    push(run, "me/no-neon", lora=True, rank=2)
    assert hub.files.keys() == {"README.md", "pytorch_lora_weights.safetensors"}
    assert "lora" in ModelCard.load(hub.folder / "README.md").data.tags


def test_a_dry_run_uploads_nothing_and_lists_what_would_be(run, hub, capsys):
    assert main(["push", str(run.folder), "me/no-neon", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert hub.calls == []
    assert "unet/diffusion_pytorch_model.safetensors" in said
    assert ".png" not in said
    assert "would upload" in said
    assert "expunge eval" in said


@pytest.mark.parametrize("name", ["no-neon", "me/no neon", "a/b/c", ""])
def test_what_is_no_repository(run, hub, name):
    with raises_error("no-repository", name):
        push(run, name)
    assert hub.calls == []


def test_a_hub_that_refuses_is_one_line(run, hub, monkeypatch):
    def refuse(*given: Any, **named: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with raises_error("not-uploaded", "me/no-neon", "hf auth login"):
        push(run, "me/no-neon")
    assert hub.calls == []
