"""What the package takes and gives in Python, where that is more than one function's own affair."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import DDIMScheduler
from raising import raises_error

import expunge
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.models.loading import load
from expunge.runs.plan import make_plan
from expunge.storage.cache import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> expunge.Run:
    folder = tmp_path_factory.mktemp("api")
    return expunge.unlearn(tiny.model(), tiny.concept(), training=tiny.TRAINING, out=folder / "run", cache=Store(folder / "store"))


def test_every_name_of_the_package_is_there_and_listed():
    assert {"unlearn", "evaluate", "audit", "report", "load", "Several", "Training", "Sampler", "Meter"} <= set(dir(expunge))
    assert [name for name in dir(expunge) if getattr(expunge, name, None) is None and not name.startswith("__")] == []


def test_one_run_is_reported_as_several_are(run: expunge.Run, tmp_path: Path):
    pages = [expunge.report(one, tmp_path / f"{i}.html").read_bytes() for i, one in enumerate((run, run.folder, str(run.folder), [run]))]
    assert len(set(pages)) == 1


def test_a_text_is_one_synonym_and_not_its_letters():
    assert Concept.find("neon", Vocabulary.canvas(), synonyms="glow").names == ("neon", "glow")


def test_settings_of_the_training_are_told_where_they_go(tmp_path: Path):
    with raises_error("setting-of-training", {"steps": 80}, "training={'steps': 80}"):
        expunge.unlearn(tiny.model(), tiny.concept(), "mim-mu", steps=80, out=tmp_path)


def test_auto_takes_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert load("canvas", "auto").device.type == "cpu"


@pytest.mark.parametrize(("name", "hint"), [("Greg Rutkowski", "Try a name that"), ("Van Gohg", "Try 'Van Gogh';")])
def test_where_any_name_may_be_new_only_a_misspelt_one_gets_a_suggestion(name: str, hint: str):
    with raises_error("unknown-concept", name, hint) as caught:
        Concept.find(name, Vocabulary.general())
    assert "expunge ls concepts --vocabulary general" in caught.value.hint


def test_a_pipeline_in_memory_is_left_as_it_was(tmp_path: Path):
    """Loading a run with it gives a changed copy; merging would have left it changed and in half precision."""
    pipeline = tiny.pipeline()
    run = expunge.unlearn(pipeline, tiny.concept(), "uce", out=tmp_path / "run", cache=Store(tmp_path / "store"))
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    changed = expunge.load(pipeline, run, dtype="fp16")
    expunge.merge(pipeline, run, tmp_path / "merged")
    assert all(torch.equal(value, before[name]) for name, value in pipeline.unet.state_dict().items())
    assert pipeline.dtype == torch.float32
    assert changed.dtype == torch.float16
    assert any(not torch.allclose(v.float(), before[n], atol=1e-2) for n, v in changed.unet.state_dict().items())


MINE = """
from dataclasses import dataclass
from expunge import methods

@dataclass(frozen=True)
class Mine(methods.METHODS["ca"]):
    ...
"""


@pytest.mark.parametrize("asked", [{"method": "edited_method:Mine"}, {"method": "uce", "before": "edited_method:Mine"}])
def test_a_method_of_ones_own_that_was_edited_is_another(asked: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    ids, requests = [], []
    for text in (MINE, MINE + "# a comment", MINE.replace("...", "companion_lr = 1e-3")):
        (tmp_path / "edited_method.py").write_text(text)
        sys.modules.pop("edited_method", None)
        plan = make_plan(tiny.model(), tiny.concept(), **asked)
        ids.append(plan.id)
        requests.append(plan.request)
    sys.modules.pop("edited_method")
    assert ids[0] == ids[1] != ids[2]
    assert len(set(requests)) == 1  # from which seeds follow


def test_a_run_whose_pictures_another_scheduler_drew_is_not_gone_on_with(tmp_path: Path):
    model = tiny.model()

    def made() -> expunge.Run:
        return expunge.unlearn(model, tiny.concept(), "ca", training=tiny.TRAINING, out=tmp_path / "run", cache=Store(tmp_path / "s"))

    assert made().id == made().id
    model.pipeline.scheduler = DDIMScheduler.from_config(model.pipeline.scheduler.config)
    with pytest.raises(ExpungeError, match="drawn by another scheduler"):
        made()
