"""Runs that must be identical, byte for byte."""

from contextlib import nullcontext
from pathlib import Path

import apart
import pytest
import tiny
import torch
from accelerate import Accelerator

from expunge.errors import ExpungeError, NonFiniteLoss
from expunge.methods import METHODS
from expunge.methods.base import Training
from expunge.models.delta import relative_change
from expunge.runs.run import Run
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.storage.tensors import read_tensors
from expunge.training.batches import gather
from expunge.training.distributed import Processes
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

OBJECTIVES = ["mim-mu", "esd"]


def delta_bytes(folder: Path, method: str = "mim-mu", watch=None, **training) -> bytes:
    unlearn(
        tiny.model(), tiny.concept(), method, training=tiny.TRAINING | training,
        out=folder, cache=Store(folder.parent / "store"), progress=tiny.watching(watch),
    )  # fmt: skip
    return (folder / "delta.safetensors").read_bytes()


class Interrupted(Exception):
    pass


def stop_after(step: int):
    def watch(steps, start, total):
        for s in steps:
            yield s
            if s.step == step:
                raise Interrupted

    return watch


@pytest.fixture(scope="module", params=OBJECTIVES)
def straight(request, tmp_path_factory) -> tuple[str, Path]:
    """A run that nothing disturbed: its method and its folder."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    delta_bytes(folder, request.param, checkpoint_every=2)
    return request.param, folder


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_resumed_run_ends_where_a_straight_one_does(tmp_path, straight, stop):
    """Checkpoints are written every 2 steps, so stopping at 5 also repeats a step whose work was lost."""
    method, folder = straight
    with pytest.raises(Interrupted):
        delta_bytes(tmp_path / "resumed", method, stop_after(stop), checkpoint_every=2)
    assert not (tmp_path / "resumed" / "delta.safetensors").exists()
    delta_bytes(tmp_path / "resumed", method, checkpoint_every=2)
    for file in ("delta.safetensors", "log.jsonl"):
        assert (tmp_path / "resumed" / file).read_bytes() == (folder / file).read_bytes()


def test_a_resumed_runs_card_counts_every_attempt(tmp_path):
    """The pictures of the first, too. What was done after the last checkpoint is lost, and done again."""
    counts = {}
    for name, stop in {"straight": None, "resumed": 4}.items():
        folder = tmp_path / name / "run"  # each with a store of its own
        with pytest.raises(Interrupted) if stop else nullcontext():
            delta_bytes(folder, watch=stop_after(stop) if stop else None, checkpoint_every=2)
        if stop:
            earlier = read_tensors(folder / "checkpoint.safetensors")["spent"][2].item()
            assert earlier > 0
            delta_bytes(folder, checkpoint_every=2)
            assert Run(folder).card["seconds"] > earlier
        counts[name] = [Run(folder).card[key] for key in ("forwards", "backwards")]
    assert counts["resumed"] == counts["straight"]


def test_the_loss_scale_of_half_precision_is_kept(tmp_path):
    """It halves at an overflow and doubles after a while: a scale begun anew would skip other steps."""

    def trainer(folder: Path) -> Trainer:
        method, training = METHODS["mim-mu"](), Training(**tiny.TRAINING)
        model = tiny.model()
        batches = gather(tiny.session(model), tiny.concept(), method.needs, training, 0)
        return Trainer(tiny.session(model), method, training, batches, TrainState(model, method.scope), folder)

    def scaled(self: Processes, dtype: str, device: torch.device) -> Accelerator:
        made = real(self, dtype, device)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        return made

    real = Processes.accelerator
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "accelerator", scaled)
        first = trainer(tmp_path)
        next(first.fit())
        first.accelerator.scaler.update(2.0)
        first.checkpoint.save(first.steps_done)
        again = trainer(tmp_path)
        assert again.accelerator.scaler.state_dict() == first.accelerator.scaler.state_dict()
        assert again.accelerator.scaler.get_scale() == 2.0


def test_another_seed_is_another_result(tmp_path):
    first = delta_bytes(tmp_path / "a")
    unlearn(tiny.model(), tiny.concept(), training=tiny.TRAINING, out=tmp_path / "b", seed=1, cache=Store(tmp_path / "store"))
    assert (tmp_path / "b" / "delta.safetensors").read_bytes() != first


@pytest.mark.parametrize("parts", [2, 4])
def test_an_accumulated_batch_is_the_batch(tmp_path, parts):
    """A batch in parts has the same gradient up to the order of summation: 1e-4 of the change, and 0.8 with half of the batch."""
    whole = {k: v.clone() for k, v in finished(tmp_path / "whole").items()}
    before = {n: p for n, p in tiny.model().network.named_parameters() if n in whole}
    cut = finished(tmp_path / "parts", accumulate=parts)
    assert relative_change(cut, whole) / relative_change(whole, before) < 1e-3


def test_gradient_checkpointing_changes_nothing(tmp_path):
    plain, checkpointed = finished(tmp_path / "plain"), finished(tmp_path / "less", gradient_checkpointing=True)
    for name, value in checkpointed.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-6)


def finished(folder: Path, **training) -> dict[str, torch.Tensor]:
    made = unlearn(
        tiny.model(), tiny.concept(), training=tiny.TRAINING | training, out=folder, cache=Store(folder.parent / "store")
    )  # fmt: skip
    return made.delta()


def test_a_finished_run_is_not_run_again(tmp_path):
    delta_bytes(tmp_path / "run")
    stamp = (tmp_path / "run" / "delta.safetensors").stat().st_mtime_ns
    delta_bytes(tmp_path / "run")
    assert (tmp_path / "run" / "delta.safetensors").stat().st_mtime_ns == stamp


def test_a_folder_of_another_run_is_refused(tmp_path):
    delta_bytes(tmp_path / "run")
    with pytest.raises(ExpungeError, match="a folder holds one run"):
        delta_bytes(tmp_path / "run", steps=7)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(NonFiniteLoss) as error:
        delta_bytes(tmp_path / "run", lr=1e30)
    assert error.value.rule == "non-finite-loss"
    assert error.value.hint == "Try a lower --lr, or fp32."
    assert not (tmp_path / "run" / "delta.safetensors").exists()
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_nothing_changed_is_an_error(tmp_path):
    with pytest.raises(ExpungeError, match="changed none of"):
        delta_bytes(tmp_path / "run", lr=1e-45)


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    """SIGKILL three times, at moments that differ from run to run, then let it finish."""
    settings = {"training": tiny.TRAINING | {"steps": 30, "checkpoint_every": 3}}
    apart.finished(tmp_path / "straight", ["neon"], settings)
    for steps_seen in (2, 4, 5):
        apart.killed(tmp_path / "killed", steps_seen, ["neon"], settings)
    assert not (tmp_path / "killed" / "delta.safetensors").exists()
    apart.finished(tmp_path / "killed", ["neon"], settings)
    results = [(tmp_path / name / "delta.safetensors").read_bytes() for name in ("straight", "killed")]
    assert results[0] == results[1]
