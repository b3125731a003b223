"""SIGTERM, as a scheduler sends it before it takes the machine away."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commandline import Said

from expunge.models.stable_diffusion import StableDiffusion
from expunge.storage.tensors import read_tensors
from expunge.training.log import StepLog
from expunge.training.optimizers import Optimizers


def terminate_at(patch: pytest.MonkeyPatch, kind: type, method: str, call: int) -> None:
    """Sends SIGTERM to this process at the call of that number."""
    original, calls = getattr(kind, method), []

    def send(*given, **named):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given, **named)

    patch.setattr(kind, method, send)


FEW = ("--target", "neon", "--steps", 4, "--checkpoint-every", 50, "--render-batch", 1, "--seed", 70)


@pytest.fixture(scope="module")
def straight(unlearn: Callable[..., Said], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert unlearn(*FEW, "--out", folder).code == 0
    return folder


@pytest.mark.parametrize(
    ("kind", "method", "call", "steps_done"),
    [(Optimizers, "at", 2, 2), (StepLog, "add", 3, 3), (StepLog, "add", 4, 4), (StableDiffusion, "sample_latents", 2, None)],
    ids=["in a step", "after a step", "after the last step", "while images are sampled"],
)
def test_a_terminated_run_has_its_last_step_and_ends_with_the_same_bytes(
    kind: type, method: str, call: int, steps_done: int | None, unlearn: Callable[..., Said], straight: Path, tmp_path: Path
):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
        terminate_at(patch, kind, method, call)
        said = unlearn(*FEW, "--out", tmp_path / "killed")
    assert said.code == 143
    assert said.err.endswith("Terminated. The same command continues from what is finished.\n")
    assert signal.getsignal(signal.SIGTERM) is before
    saved = tmp_path / "killed" / "checkpoint.safetensors"
    assert (int(read_tensors(saved)["steps_done"]) if saved.exists() else None) == steps_done
    assert unlearn(*FEW, "--out", tmp_path / "killed").code == 0
    for name in ("delta.safetensors", "log.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (straight / name).read_bytes()
