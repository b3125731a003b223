"""How the cost of a run grows with steps, concepts and images: `python benchmarks/curves.py` adds the missing lines to curves.jsonl.

Counted lines have the passes of a run, gone through with a network that only counts; they are exact. Measured lines have processor seconds
on the canvas with small budgets, which other work on the machine disturbs little. Both have the bytes of banks: measured in the cache, or
counted from their tensors. `python benchmarks/growth_figures.py` draws them.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from architectures import small
from growth import names
from speed import machine

import expunge
from expunge.canvas.prompts import OBJECTS, STYLES
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several
from expunge.concepts.vocabulary import Vocabulary
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.base import DiffusionModel
from expunge.models.loading import load
from expunge.models.outline import without_network
from expunge.progress import Silent
from expunge.runs.cost import Rehearsed, prices, together
from expunge.runs.plan import make_plan
from expunge.storage.cache import Store
from expunge.storage.files import append_line
from expunge.storage.pruning import entries
from expunge.training.banks import sampler_of
from expunge.training.batches import gather
from expunge.training.session import Session

FILE = Path(__file__).with_suffix(".jsonl")
LABELS = {"mim-mu": "MiM-MU", "esd": "ESD", "salun": "SalUn", "erase-diff": "EraseDiff"}
STABLE = "Stable Diffusion, 512 px"
FEW: dict[str, Any] = {"points": 64, "pictures": 4, "retain_pictures": 4}
"""The banks of measured runs: small, so that steps are what is measured."""

Measure = Callable[[], dict[str, Any]]


@cache
def model_of(name: str) -> DiffusionModel:
    """The canvas, or small networks behind the latents of Stable Diffusion at 512 pixels."""
    return load("canvas") if name == "canvas" else load(small(pixels=512))


def neon() -> Concept:
    return Concept.find("neon", Vocabulary.canvas())


def painter() -> Concept:
    return Concept.find("Van Gogh", Vocabulary.general())


def counted_run(model: str, concept: Any, **asked: Any) -> dict[str, Any]:
    """The passes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(model_of(model), Store(Path(folder)), Silent())
        price = together(prices(make_plan(session.model, concept(), **asked), session))
    return {"forwards": price.forwards, "backwards": price.backwards}


def counted_bank(model: str, concept: Callable[[], Concept], method: str, images: int) -> dict[str, Any]:
    """The passes that sample the images of a bank, and the bytes of its tensors."""
    net, kind = model_of(model), find_method(method)
    assert issubclass(kind, Objective)  # a closed form has no bank
    silent = without_network(net)
    training = expunge.Training(pictures=images, points=images * sampler_of(net, kind.training).steps)
    with tempfile.TemporaryDirectory() as folder:
        store = Rehearsed(Path(folder))
        gather(Session(silent, store, Silent()), concept(), kind().needs & {"forget", "trajectory"}, training, 0)
    larger = math.prod(net.latent_shape) / math.prod(silent.latent_shape)  # where calls are only counted, latents are small
    tensors = [t for made in store.made.values() for t in made.values() if t.ndim >= len(net.latent_shape)]
    forwards = net.forwards_per_image(sampler_of(net, training)) * images
    return {"forwards": forwards, "bytes": int(sum(t.nbytes for t in tensors) * larger)}


def measured_run(concepts: int, **asked: Any) -> dict[str, Any]:
    """A run on the canvas: seconds of the processor for all of it, banks and files included."""
    vocabulary = Vocabulary.canvas()
    targets = [Concept.find(word.name, vocabulary) for word in (*STYLES, *OBJECTS)[:concepts]]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        began = time.process_time()
        run = expunge.unlearn(model_of("canvas"), targets, out=out / "run", cache=out / "cache", progress=Silent(), **asked)
        seconds = time.process_time() - began
        return {"seconds": seconds, "forwards": run.card["forwards"], "backwards": run.card["backwards"]}


def measured_bank(method: str, images: int) -> dict[str, Any]:
    """A bank on the canvas: seconds of the processor, and what its files take on the disk."""
    net, kind = model_of("canvas"), find_method(method)
    assert issubclass(kind, Objective)
    training = expunge.Training(pictures=images, points=images * sampler_of(net, kind.training).steps)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        gather(Session(net, Store(Path(folder)), Silent()), neon(), kind().needs & {"forget", "trajectory"}, training, 0)
        seconds = time.process_time() - began
        return {"seconds": seconds, "bytes": sum(entry.size for entry in entries(Path(folder)))}


def people(count: int) -> Several | Concept:
    found = [Concept.find(name, Vocabulary.general(), kind="identity") for name in names(count)]
    return Several.of(found) if count > 1 else found[0]


def points() -> Iterator[tuple[dict[str, Any], Measure]]:
    """Each point of each figure, and what finds its value."""
    for method, label in LABELS.items():
        for steps in (25, 50, 100, 200, 400, 800):
            asked = {"method": method, "training": {"steps": steps}}
            yield point("steps", "counted", label, steps), partial(counted_run, "canvas", neon, **asked)
    preset = expunge.preset("many-concepts")
    for count in (1, 2, 5, 10, 20, 50, 100):
        about = point("concepts", "counted", "many-concepts", count) | {"model": STABLE}
        yield about, partial(counted_run, STABLE, partial(people, count), **preset)
    for method in ("mim-mu", "esd"):
        for images in (8, 16, 32, 64, 128, 256, 512, 1024):
            for model, concept in (("canvas", neon), (STABLE, painter)):
                about = point("images", "counted", LABELS[method], images) | {"model": model}
                yield about, partial(counted_bank, model, concept, method, images)
    for method in ("mim-mu", "esd"):
        for steps in (1, 4):
            asked = {"method": method, "training": FEW | {"steps": steps}}
            yield point("steps", "measured", LABELS[method], steps), partial(measured_run, 1, **asked)
    for count in (1, 4):
        short = preset | {"training": preset["training"] | {"steps": 1, "points": 32, "pictures": 2, "retain_pictures": 2}}
        yield point("concepts", "measured", "many-concepts, 1 step a concept", count), partial(measured_run, count, **short)
    for method in ("mim-mu", "esd"):
        for images in (4, 8, 16):
            yield point("images", "measured", LABELS[method], images), partial(measured_bank, method, images)


def point(figure: str, way: str, what: str, x: int) -> dict[str, Any]:
    return {"figure": figure, "way": way, "model": "canvas", "what": what, "x": x}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--way", nargs="*", choices=["counted", "measured"], default=["counted", "measured"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if "measured" in given.way:
        measured_run(1, method="esd", training=FEW | {"steps": 1})  # imports and loads what the first line would count
    lines = [json.loads(text) for text in given.file.read_text().splitlines()] if given.file.exists() else []
    done = [{key: line[key] for key in point("", "", "", 0)} for line in lines]
    for about, measure in points():
        if about in done or about["way"] not in given.way:
            continue
        line = about | measure() | ({"machine": machine()} if about["way"] == "measured" else {})
        append_line(given.file, line)
        print({key: value for key, value in line.items() if key != "machine"}, flush=True)


if __name__ == "__main__":
    main()
