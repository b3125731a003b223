"""Images of an evaluation in half precision: sampled so where labels are those of full precision, else refused."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny
import torch
from bench.conftest import Coin
from raising import raises_error

from expunge.evaluation.counting import count_images
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.half_precision import COMPARED, compared_shots
from expunge.evaluation.judges import Judgement
from expunge.evaluation.protocol import BUDGETS, Protocol
from expunge.evaluation.results import read_samples
from expunge.evaluation.statistics import wilson
from expunge.evaluation.worker import Job, work
from expunge.models.half import rounded
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store

FEW = {"sampler": Sampler(2, 1.0), "protocol": Protocol(prompts=4, target_seeds=2), "metrics": ["UA", "IRA"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Store]:
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    return unlearn(tiny.model(), tiny.concept(), "uce", out=folder / "run", cache=store), store


class Parity(Coin):
    """Labels that the last bit of an image decides, which no rounding leaves alone."""

    def __call__(self, images: torch.Tensor, concept: object) -> Judgement:
        labels = tuple(str(int(image.long().sum()) % 2) for image in images)
        return Judgement({kind: labels for kind in super().__call__(images, concept).seen})


class Calm(Coin):
    """Labels that rounding does not change."""

    def __call__(self, images: torch.Tensor, concept: object) -> Judgement:
        return Judgement({kind: ("ring",) * len(images) for kind in super().__call__(images, concept).seen})


def judged_by(judge: Coin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.evaluation.evaluate.judges_for", lambda *given: (judge,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rounded_network_samples_as_one_that_was_cast_and_is_put_back(dtype: torch.dtype):
    model, sampler = tiny.model(), Sampler(2, 2.0)
    own = {name: p.data.clone() for name, p in model.network.named_parameters()}
    full, key = model.sample_latents(model.encode(["a ring"]), [0], sampler), model.rendering
    with rounded(model, dtype):
        half, rounded_key = model.sample_latents(model.encode(["a ring"]), [0], sampler), model.rendering
    cast = tiny.model()
    cast.network.to(dtype)
    assert torch.equal(half, cast.sample_latents(cast.encode(["a ring"]), [0], sampler))
    assert not torch.equal(half, full)
    assert all(torch.equal(p.data, own[name]) for name, p in model.network.named_parameters())
    assert model.rendering == key
    assert rounded_key["dtype"] == f"{str(dtype).removeprefix('torch.')} from float32"
    assert key["dtype"] == "float32"


def test_images_in_half_precision_are_compared_and_used(made: tuple[Run, Store], monkeypatch: pytest.MonkeyPatch):
    run, store = made
    judged_by(Calm(), monkeypatch)
    evaluate(run, tiny.model(), cache=store, **FEW)
    before = set((store.root / "pictures").iterdir())
    rows = evaluate(run, tiny.model(), cache=store, render_dtype="bf16", **FEW)
    about = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())
    compared = 2 * len(compared_shots(tiny.concept(), FEW["protocol"]))
    low = wilson(compared, compared).low
    assert about["render_dtype"] == "bf16"
    assert f"gave {compared} of {compared} images" in about["notes"][-1]
    assert f"{low:.0%} to 100%" in about["notes"][-1]
    new = set((store.root / "pictures").iterdir()) - before  # those in full precision were there
    assert len(new) == len(before) == 2 * len(read_samples(run.folder))
    assert rows


def test_labels_that_differ_refuse_it_and_write_nothing(made: tuple[Run, Store], monkeypatch: pytest.MonkeyPatch):
    run, store = made
    judged_by(Calm(), monkeypatch)
    rows = [asdict(row) for row in evaluate(run, tiny.model(), cache=store, **FEW)]
    judged_by(Parity(), monkeypatch)
    with raises_error("half-disagrees", hint="--render-dtype") as caught:
        evaluate(run, tiny.model(), cache=store, render_dtype="bf16", **FEW)
    assert 0 < caught.value.value < 0.95
    assert [json.loads(line) for line in (run.folder / "evaluation" / "rows.jsonl").read_text().splitlines()] == rows


def test_without_a_judge_or_in_another_precision_it_is_refused(made: tuple[Run, Store]):
    run, store = made
    with raises_error("half-without-judge", "fp16", hint="--judge"):
        evaluate(run, tiny.model(), cache=store, render_dtype="fp16", **FEW)
    with raises_error("unknown-dtype", "fp32", hint="bf16"):
        evaluate(run, tiny.model(), cache=store, render_dtype="fp32", **FEW)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(budget="quick")])
def test_the_compared_images_are_of_the_evaluation_and_counted(made: tuple[Run, Store], protocol: Protocol, tmp_path: Path):
    run, model = made[0], tiny.model()
    compared = compared_shots(tiny.concept(), protocol)
    assert len(compared) == len(set((s.prompt.prompt, s.index) for s in compared)) <= COMPARED
    session = tiny.session(model, Store(tmp_path))
    full = count_images(run, session, protocol, model.default_sampler)
    half = count_images(run, session, protocol, model.default_sampler, "bf16")
    assert half[1] - full[1] == half[0] - full[0] == 2 * len(compared)
    if protocol.budget == "quick":
        assert full[1] == 2 * sum(BUDGETS["quick"].images.values())


def test_a_worker_samples_in_the_precision_of_the_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny.pipeline().save_pretrained(tmp_path / "model")
    jobs: list[dict] = []
    monkeypatch.setattr("expunge.training.workers.LocalWorkers.send", lambda self, job: jobs.append(json.loads(Path(job).read_text())))
    run = unlearn(str(tmp_path / "model"), tiny.concept(), "uce", out=tmp_path / "run", cache=tmp_path / "cache", device="cpu")
    judged_by(Calm(), monkeypatch)
    evaluate(run, load(str(tmp_path / "model")), cache=tmp_path / "cache", workers=2, render_batch=4, render_dtype="bf16", **FEW)
    assert {(job["dtype"], job["render_dtype"]) for job in jobs} == {("fp32", "torch.float32"), ("fp32", "torch.bfloat16")}
    pictures = {file.name: file.read_bytes() for file in (tmp_path / "cache" / "pictures").iterdir()}
    for file in (tmp_path / "cache" / "pictures").iterdir():
        file.unlink()
    for job in jobs:
        work(Job(**job), "cpu")
    assert {file.name: file.read_bytes() for file in (tmp_path / "cache" / "pictures").iterdir()} == pictures
