"""Estimated against measured time and memory: `python benchmarks/estimates.py canvas FOLDER... >> benchmarks/estimates.jsonl`.

For each model, in a process of its own with one thread: a forward pass, and a forward and backward pass into cross-attention, estimated
from configurations and then measured. With `--runs METHOD...` whole runs of these methods instead, with an empty cache; `--set steps=2
points=4` makes them short. Time is that of the processor, so that others on the machine disturb it less. The speed of the
device is measured anew in the same process. Memory is the peak that the process has resident, minus what it has before the model is loaded;
and, as `tensors`, the peak of the tensors that the pass makes, without what the allocator and the kernels take besides.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from speed import peak_of

import expunge
from expunge.diffusion.types import Point
from expunge.models import speed
from expunge.models.loading import load
from expunge.models.outline import octets_of, outline
from expunge.models.scopes import SCOPES
from expunge.progress import Silent
from expunge.runs.cost import passes_of

BATCHES = {"canvas": (8, 32)}
"""By model; large enough that tensors, not the allocator, fill the memory."""
REPEATS = 9


def resident(peak: bool = False) -> int:
    """Bytes that the process has in memory now, or has had since `forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    return 1024 * int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)).split()[1])


def forget_peak() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is not resident
    Path("/proc/self/clear_refs").write_text("5")


def fastest(action: Callable[[], None]) -> float:
    def timed() -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    return min(timed() for _ in range(REPEATS))


def measure(name: str) -> None:
    torch.set_num_threads(1)
    scope = SCOPES["xattn"]
    sketch = outline(name, "cpu")
    rates = speed.measure(torch.device("cpu"), torch.float32, is_busy=True)
    counted = {batch: passes_of(sketch, scope, batch) for batch in BATCHES.get(name, (1, 2))}
    forget_peak()
    before = resident()
    model = load(name, "cpu")
    weights = octets_of(sketch)
    trained = model.scope(scope)
    model.network.requires_grad_(False)
    for batch, passes in counted.items():
        t = model.path.times(torch.full((batch,), 0.5))
        point = Point(torch.randn(batch, *model.latent_shape), t, model.null(batch), ("",) * batch)

        def forward(point: Point = point) -> None:
            with torch.no_grad():
                model.predict(point)

        def both(point: Point = point) -> None:
            torch.autograd.grad(model.predict(point).square().mean(), list(trained.values()))

        held = passes.resident("cpu")
        for kind, action, work, octets, whole in (
            ("forward", forward, passes.forward, passes.forward_octets, held.forward_octets),
            ("both", both, passes.both, passes.both_octets, held.both_octets),
        ):
            for parameter in trained.values():
                parameter.requires_grad_(kind == "both")
            forget_peak()
            seconds, peak = fastest(action), resident(peak=True) - before
            tensors = peak_of(action)
            gradients = 4 * sum(p.numel() for p in trained.values()) if kind == "both" else 0
            row = {
                "model": Path(name).name, "batch": batch, "pass": kind, "tflop": round(work.flops / 1e12, 4),
                "seconds": round(seconds, 3), "estimated_seconds": round(rates.seconds(work), 3),
                "mib": round(peak / 2**20), "estimated_mib": round((weights + whole + gradients) / 2**20),
                "tensors_mib": round(tensors / 2**20, 1), "estimated_tensors_mib": round((octets + gradients) / 2**20, 1),
                "machine": f"{platform.system()} {platform.machine()}, 1 thread",
            }  # fmt: skip
            print(json.dumps(row), flush=True)


def measure_run(name: str, method: str, settings: dict[str, int]) -> None:
    """One run, priced as `--dry-run` does and then made."""
    torch.set_num_threads(1)
    target = "ring" if name == "canvas" else "Van Gogh style"
    speed._is_busy = lambda: True  # so that probes count the processor's seconds, as the run does here
    found = expunge.estimate(name, target, method, training=settings, device="cpu")
    forget_peak()
    before = resident()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        expunge.unlearn(
            name, target, method, training=settings, out=f"{folder}/run", cache=f"{folder}/cache", device="cpu", progress=Silent()
        )
        seconds = time.process_time() - began
    row = {
        "model": Path(name).name, "run": method, **settings,
        "seconds": round(seconds, 1), "estimated_seconds": round(found.seconds or 0, 1),
        "mib": round((resident(peak=True) - before) / 2**20), "estimated_mib": round(max((found.memory or {"": 0}).values()) / 2**20),
        "machine": f"{platform.system()} {platform.machine()}, 1 thread",
    }  # fmt: skip
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="canvas, or diffusers folders")
    parser.add_argument("--here", action="store_true", help="in this process")
    parser.add_argument("--runs", nargs="*", metavar="METHOD", default=[], help="whole runs of these methods")
    parser.add_argument("--set", nargs="*", metavar="SETTING=N", default=[], help="settings of training in these runs")
    given = parser.parse_args()
    settings = {name: int(value) for name, _, value in (text.partition("=") for text in given.set)}
    jobs = [[model, "--runs", run, "--set", *given.set] for model in given.models for run in given.runs] or [[m] for m in given.models]
    if given.here and given.runs:
        measure_run(given.models[0], given.runs[0], settings)
    elif given.here:
        measure(given.models[0])
    else:
        for job in jobs:
            with tempfile.TemporaryDirectory() as cache:  # where nothing is kept: the libraries are in memory before the model is
                environment = os.environ | {"EXPUNGE_CACHE": cache}
                subprocess.run([sys.executable, "-W", "ignore", __file__, "--here", *job], check=True, env=environment)


if __name__ == "__main__":
    main()
