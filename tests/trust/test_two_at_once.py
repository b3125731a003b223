"""Two commands on one folder at once: one works, the other says so, and nothing is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny

from expunge.errors import ExpungeError
from expunge.evaluation import evaluate as evaluating
from expunge.evaluation.evaluate import evaluate
from expunge.evaluation.information import retention
from expunge.evaluation.information.interview import Meter
from expunge.evaluation.information.retention import measure_information
from expunge.evaluation.protocol import Protocol
from expunge.evaluation.results import Row
from expunge.models.sampling import Sampler
from expunge.runs import compose as composing
from expunge.runs import unlearn as unlearning
from expunge.runs.card import is_done
from expunge.runs.compose import compose
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.steps import Step


def refused(work: Callable[[], object], folder: Path) -> None:
    with pytest.raises(ExpungeError) as error:
        work()
    assert (error.value.rule, error.value.value) == ("in-use", str(folder))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Run]:
    def run(folder: str = "run", target: str = "neon", **given: object) -> Run:
        usual = {"training": tiny.TRAINING, "out": tmp_path / folder, "cache": Store(tmp_path / "store")}
        return unlearn(tiny.model(), tiny.concept(target), "esd", **usual | given)

    return run


def test_a_run_is_trained_once(made, tmp_path: Path):
    """The second is refused in the midst of the first, which ends as if it had been alone."""
    straight, tried = made("straight"), []

    def watch(steps: Iterator[Step], done: int, count: int) -> Iterator[Step]:
        for step in steps:
            if step.step == 3:
                refused(made, tmp_path / "run")
                tried.append(step.step)
            yield step

    run = made(progress=tiny.watching(watch))
    assert tried == [3]
    for file in ("delta.safetensors", "log.jsonl"):
        assert (run.folder / file).read_bytes() == (straight.folder / file).read_bytes()


def test_one_that_waited_for_the_card_finds_the_run_done(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It ended between the look at the card and the lock: it is not made again."""
    first = made()
    looks = [False]
    monkeypatch.setattr(unlearning, "is_done", lambda *a: looks.pop() if looks else is_done(*a))
    before = (first.folder / "card.json").stat().st_mtime_ns
    assert made().id == first.id
    assert (first.folder / "card.json").stat().st_mtime_ns == before


def test_a_finished_run_is_read_where_nothing_can_be_written(made, monkeypatch: pytest.MonkeyPatch):
    first = made()
    monkeypatch.setattr("expunge.training.distributed.alone_in", lambda folder: pytest.fail("locked"))
    assert made().id == first.id


def test_a_run_that_failed_leaves_its_folder_free(made):
    def fail(steps: Iterator[Step], done: int, count: int) -> Iterator[Step]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        made(progress=tiny.watching(fail))
    assert made().card["status"] == "done"


def test_each_stage_of_a_sequence_has_a_folder_of_its_own(made):
    assert len(made(before=["uce"]).stages) == 2


def test_a_run_is_evaluated_once_at_a_time(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, given = made(), {"sampler": Sampler(1, 1.0), "protocol": Protocol(prompts=1, target_seeds=1), "cache": Store(tmp_path / "store")}
    weight_rows, tried = evaluating.weight_rows, []

    def meanwhile(*a: object) -> list[Row]:
        refused(lambda: evaluate(run.folder, tiny.model(), **given), run.folder / "evaluation")
        tried.append(True)
        return weight_rows(*a)

    monkeypatch.setattr(evaluating, "weight_rows", meanwhile)
    assert evaluate(run, tiny.model(), **given)
    assert tried == [True]


def test_a_run_is_metered_once_at_a_time(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, given = made(), {"meter": Meter(pictures=4, target_pictures=8, draws=2, others=1, maps=0), "cache": Store(tmp_path / "store")}
    rows, tried = retention._rows, []

    def meanwhile(*a: object) -> object:
        refused(lambda: measure_information(run.folder, tiny.model(), **given), run.folder / "information")
        tried.append(True)
        return rows(*a)

    monkeypatch.setattr(retention, "_rows", meanwhile)
    assert measure_information(run, tiny.model(), **given).rows
    assert tried == [True]


@pytest.mark.parametrize("measure", [evaluate, measure_information])
def test_nothing_is_written_into_what_is_no_run(tmp_path: Path, measure: Callable):
    with pytest.raises(ExpungeError) as refused:
        measure(tmp_path / "nowhere")
    assert refused.value.value == str(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_runs_are_composed_into_a_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    runs = [unlearn(tiny.model(), tiny.concept(c), "uce", out=tmp_path / c, cache=Store(tmp_path / "store")) for c in ("neon", "ring")]
    save, tried = composing.save_delta, []

    def meanwhile(*a: object) -> None:
        if not tried:
            tried.append(True)
            refused(lambda: compose(runs, tmp_path / "both", tiny.model()), tmp_path / "both")
        save(*a)

    monkeypatch.setattr(composing, "save_delta", meanwhile)
    assert compose(runs, tmp_path / "both", tiny.model()).card["status"] == "done"
    assert tried == [True]
