"""Seconds a step, peak memory and share of the device's peak: `python benchmarks/gpu.py --keep benchmarks/gpu.jsonl`, on a GPU in minutes.

Networks have random weights and bf16 (`--dtype`). A step is MiM-MU's with its defaults at a batch size, on a bank of few points: as many
samples again as the batch go through for its lock. FLOPs are counted by torch on the step itself; the peak is what one large product of
matrices reaches on the same device in the same dtype. `--small --device cpu` tries the script where there is no GPU.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from architectures import small, small_xl, stable_diffusion_1_5, stable_diffusion_xl
from torch.utils.flop_counter import FlopCounterMode

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.methods.mim_mu import MiMMU
from expunge.models.loading import load
from expunge.models.precision import DTYPES
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.session import Session
from expunge.training.state import TrainState

ARCHITECTURES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "stable-diffusion-1.5": (stable_diffusion_1_5, small),
    "stable-diffusion-xl": (stable_diffusion_xl, small_xl),
}
POINTS = 16
"""Of the bank: few, since sampling images is no part of what is measured."""


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(action: Callable[[], object], times: int, device: torch.device) -> float:
    """The mean of several, after the device has finished what it had to do before."""
    settle(device)
    began = time.perf_counter()
    for _ in range(times):
        action()
    settle(device)
    return (time.perf_counter() - began) / times


def reached(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOPs a second of a product of two square matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / seconds_of(lambda: a @ b, 20, device)


def measured(name: str, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """A line: one architecture at one batch size."""
    device, dtype = torch.device(given.device), DTYPES[given.dtype]
    model = load(ARCHITECTURES[name][given.small](dtype=dtype, device=given.device))
    training = replace(MiMMU.training, steps=10**6, batch_size=batch, pictures=2, points=max(POINTS, batch), train_sampler_steps=2)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(model, Store(Path(folder)), Silent())
        batches = gather(session, Concept.find("Van Gogh", Vocabulary.general()), MiMMU().needs, training, 0)
        state = TrainState(model, MiMMU().scope)
        trainer = Trainer(session, MiMMU(), training, batches, state)
        with model.as_trained(False), model.mixed(trainer.accelerator.autocast):
            fit = trainer.fit()
            for _ in range(max(3, 3 * POINTS // batch)):  # until most predictions of the reference are known
                next(fit)
            with FlopCounterMode(display=False) as flops:
                next(fit)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            seconds = seconds_of(lambda: next(fit), given.steps, device)
    size = 256 if given.small else 8192
    peak = reached(device, dtype, size)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    cuda = device.type == "cuda"
    machine = {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "date": str(date.today()),
        **{package: version(package) for package in ("torch", "diffusers", "transformers", "expunge")},
    }
    about = {"architecture": name, "small": given.small, "pixels": model.size, "dtype": given.dtype, "batch": batch}
    count = flops.get_total_flops()
    cost = {"seconds": seconds, "flops": count, "peak_bytes": memory, "device_flops": peak, "share": count / seconds / peak}
    return about | cost | {"machine": machine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=10, help="that are timed")
    parser.add_argument("--only", nargs="*", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--small", action="store_true", help="networks of a few thousand parameters")
    parser.add_argument("--keep", type=Path, help="a file that each line is added to")
    given = parser.parse_args()
    for name in given.only:
        for batch in given.batches:
            try:
                line = json.dumps(measured(name, batch, given))
            except (ExpungeError, torch.OutOfMemoryError) as error:
                print(f"{name}, batch {batch}: {error}", flush=True)
                continue
            print(line, flush=True)
            if given.keep:
                with given.keep.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
