"""What a step costs: `python benchmarks/speed.py` (or `make bench-speed`) adds to benchmarks/speed.jsonl what is not there yet.

For each method, in one process on one thread, step by step in turn:

    textbook   the step as the released loop takes it (benchmarks/textbook.py)
    ours       a step of the trainer, on banks that were made before
    bare       the forward and backward passes that our step makes, without anything around them

A line is one method in one form: the released loss at the released batch, or our defaults at batch 1. Seconds are of the processor, so
that others on the machine disturb them little; ratios are of steps that were taken in turn, and their range is over repetitions. Delete a
line, or give --again, to measure it anew.
"""

import argparse
import json
import platform
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from textbook import STEPS, Setting
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.types import Cond
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.models.stable_diffusion import StableDiffusion
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.storage.files import write_lines
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.session import Session
from expunge.training.state import TrainState

FILE = Path(__file__).with_suffix(".jsonl")
RELEASED = {
    "esd": (200, 1),
    "sdd": (1500, 1),
    "ca": (100, 8),
    "f-dmu": (500, 8),
    "salun": (100, 8),
    "erase-diff": (100, 8),
    "spm": (3000, 1),
}
"""Steps and batch of the released settings; EraseDiff's batch is 16 there, and SalUn's and EraseDiff's steps follow from the data set."""
FORMS: dict[str, dict[str, Any]] = {
    "esd": {"surrogate": "null"},
    "ca": {"prior_weight": 0.0},
    "spm": {"surrogate": "null", "anchor_weight": 1000.0},
}
"""Our settings that give the released loss, where the defaults give another."""
SAMPLING = Sampler(50, 3.0)
"""The released loops sample so; ours makes its banks with it here too, so that both do the same."""
IMAGES = 4
"""For the methods that train on images, of each bank: their number does not change what a step costs."""
TRAJECTORIES = ("esd", "sdd", "spm")


class Published(StableDiffusion):
    """The canvas's network with the released loops' sampler."""

    sampler = SAMPLING


@dataclass
class Tally:
    """Calls of networks, samples in them, and those of the samples that carry a gradient."""

    calls: int = 0
    samples: int = 0
    with_gradient: int = 0
    shapes: list[tuple[int, bool]] = field(default_factory=list)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts every U-Net's calls meanwhile, a copy's too."""

        def see(net: nn.Module, arguments: tuple, named: dict) -> None:
            if type(net).__name__ == "UNet2DConditionModel":
                size, grad = len(next(iter((*arguments, *named.values())))), torch.is_grad_enabled()
                self.calls, self.samples = self.calls + 1, self.samples + size
                self.with_gradient += size * grad
                self.shapes.append((size, grad))

        handle = nn.modules.module.register_module_forward_pre_hook(lambda net, args: see(net, args, {}))
        try:
            yield
        finally:
            handle.remove()


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    versions = {name: version(name) for name in ("torch", "diffusers", "transformers", "expunge")}
    return {"cpu": cpu, "threads": str(torch.get_num_threads()), "python": platform.python_version(), "date": str(date.today()), **versions}


class Alive(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations make, each for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for storage in (t.untyped_storage() for t in tree_leaves(made) if isinstance(t, torch.Tensor)):
            if storage._cdata not in given and storage not in self._known:  # no view of what was there before
                self._known.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return made

    def _change(self, octets: int) -> None:
        self.now += octets
        self.peak = max(self.peak, self.now)


def peak_of(action: Callable[[], object]) -> int:
    """The largest number of bytes of tensors that an action makes and that are alive at once."""
    with Alive() as alive:
        action()
    return alive.peak


def in_turn(steps: dict[str, Callable[[float], object]], repetitions: int, block: int) -> dict[str, list[float]]:
    """Processor seconds of a step by variant, one number for each repetition: a block of steps of each variant, one after another."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            began = time.process_time()
            for i in range(block):
                step((i + 0.5) / block)  # partial trajectories of every length, evenly
            seconds[name].append((time.process_time() - began) / block)
    return seconds


def trainer_of(method: str, form: str, batch: int, folder: str) -> tuple[Trainer, dict[str, Any]]:
    """Our trainer at a batch size, and what making its banks cost."""
    kind = find_method(method)
    assert issubclass(kind, Objective)  # a closed form has no steps
    training = replace(kind.training, batch_size=batch, steps=10**6)
    if method not in TRAJECTORIES:  # the released loops make their images too: they are no part of the comparison
        training = replace(training, pictures=IMAGES, retain_pictures=IMAGES)
    made = kind()
    if form == "released":
        made = kind(**FORMS.get(method, {}))
        training = replace(training, whiten=0.0, prompts="bare" if method in TRAJECTORIES else "every")
    parts = load("canvas").pipeline
    model, tally = Published(parts), Tally()
    session = Session(model, Store(Path(folder)), Silent())
    began = time.process_time()
    with tally.counting():
        batches = gather(session, Concept.find("neon", Vocabulary.canvas()), made.needs, training, 0)
    bank = {"seconds": time.process_time() - began, "calls": tally.calls, "samples": tally.samples}
    state = TrainState(model, made.scope, 0, training.ema)
    return Trainer(session, made, training, batches, state), bank


def bare_of(trainer: Trainer, shapes: list[tuple[int, bool]]) -> Callable[[float], None]:
    """The passes of a step alone: forward, and backward into what the step trains."""
    model, net = trainer.model, trainer.model.network
    largest = max(size for size, _ in shapes)
    x, t = torch.randn(largest, *model.latent_shape), torch.full((largest,), 500)
    c = model.encode(["a ring"] * largest).states
    weights = list(trainer.state.trained.values())

    def passes(share: float) -> None:
        for size, grad in shapes:
            with torch.set_grad_enabled(grad):
                if trainer.state.rank:
                    out = model.run(x[:size], t[:size], Cond(c[:size], ("",) * size), trainer.state.called(trainer.state.trained))
                else:
                    out = net(x[:size], t[:size], c[:size], return_dict=False)[0]
            if grad:
                out.square().mean().backward()
        for weight in weights:
            weight.grad = None

    return passes


def measured(method: str, form: str, repetitions: int, block: int) -> dict[str, Any]:
    """A line of the file: the released loss at the released batch beside the released loop, or our defaults at batch 1."""
    steps, batch = RELEASED[method] if form == "released" else (0, 1)
    textbook = form == "released"
    with tempfile.TemporaryDirectory() as folder:
        trainer, bank = trainer_of(method, form, batch, folder)
        with trainer.model.as_trained(False), trainer.model.mixed(trainer.accelerator.autocast):
            fit = trainer.fit()
            tally = Tally()
            next(fit)
            with tally.counting():
                next(fit)
            variants: dict[str, Callable[[float], object]] = {"ours": lambda share: next(fit), "bare": bare_of(trainer, tally.shapes)}
            counts = {"ours": tally, "bare": tally}
            if textbook:
                setting = Setting(
                    Published(load("canvas").pipeline), "neon style", "a ring", batch, SAMPLING.steps, SAMPLING.guidance_scale
                )
                variants["textbook"] = STEPS[method](setting)
                counts["textbook"] = Tally()
                with counts["textbook"].counting():
                    variants["textbook"](0.5)
            seconds = in_turn(variants, repetitions, block)
            peaks = {name: peak_of(lambda step=step: step(0.02)) for name, step in variants.items()}  # type: ignore[misc]
    rows: dict[str, dict[str, Any]] = {
        name: {
            "seconds": median(seconds[name]),
            "of_bare": [a / b for a, b in zip(seconds[name], seconds["bare"], strict=True)],
            "calls": counts[name].calls,
            "samples": counts[name].samples,
            "with_gradient": counts[name].with_gradient,
            "peak_bytes": peaks[name],
        }
        for name in variants
    }
    if textbook:
        step = rows["textbook"]["seconds"], rows["ours"]["seconds"]
        rows["textbook"]["of_ours"] = [a / b for a, b in zip(seconds["textbook"], seconds["ours"], strict=True)]
        if method in TRAJECTORIES:
            rows["textbook"]["run_of_ours"] = steps * step[0] / (bank["seconds"] + steps * step[1])
    about = {"method": method, "form": form, "batch": batch, "steps": steps, "repetitions": repetitions, "block": block}
    return about | {"bank": bank, "variants": rows}


def kept(file: Path = FILE) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--only", nargs="*", default=list(RELEASED), metavar="METHOD")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--block", type=int, default=2, help="steps of a variant before the next has its turn")
    parser.add_argument("--again", action="store_true", help="measure anew what the file has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for method in given.only:
        for form in ("released", "default"):
            lines = kept(given.file)
            same = [line for line in lines if (line["method"], line["form"]) == (method, form)]
            if same and not given.again:
                continue
            made = measured(method, form, given.repetitions, given.block)
            write_lines(given.file, [*(line for line in lines if line not in same), made | {"machine": machine()}])
            print(method, form, {name: round(row["seconds"], 4) for name, row in made["variants"].items()}, flush=True)


if __name__ == "__main__":
    main()
