"""Images that several processes sample; `do` is what the others run (see `expunge.training.workers`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.concepts.concept import ProbePrompt
from expunge.errors import ExpungeError
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rendering import RENDER_BATCH, ImageFiles, locate_images, maker
from expunge.models.base import DiffusionModel
from expunge.models.compiling import compiled
from expunge.models.delta import swapped
from expunge.models.half import rounded
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.storage.files import write_json
from expunge.storage.hashing import digest
from expunge.storage.tensors import content
from expunge.training.batch_size import RenderBatch
from expunge.training.renderer import Renderer
from expunge.training.session import Session


@dataclass(frozen=True)
class Job:
    """Images to sample, for a process that has nothing but the cache in common."""

    model: str
    dtype: str
    render_dtype: str
    """What torch calls the precision of the network while it samples."""
    cache: str
    render_batch: RenderBatch
    is_compiled: bool
    delta: str
    """The key of the changed weights in the cache; empty for the base model."""
    weights: str
    """The name of the weights in the names of images."""
    sampler: Mapping[str, Any]
    prompts: Sequence[tuple[str, int]]
    """Each image's prompt and the seed of its noise."""
    batches: Sequence[Sequence[int]]
    """The places in `prompts` of the images of each batch."""
    names: str
    """A digest of the images' names, which a process that computes other images does not arrive at."""

    @property
    def shots(self) -> list[Shot]:
        return [Shot("target", ProbePrompt(prompt, {}), 0, seed) for prompt, seed in self.prompts]


@contextmanager
def shared(
    session: Session, shots: Sequence[Shot], sampler: Sampler, weights: str, delta: Mapping[str, Tensor]
) -> Iterator[list[list[int]] | None]:
    """Lets the session's workers, if it has any, take part in sampling images as long as the context lasts. Yields the batches."""
    files = ImageFiles(locate_images(session, shots, sampler, weights))
    batches = Renderer(session, RENDER_BATCH).batches(files)
    workers = session.workers
    if workers is None or len(batches) < 2:
        yield batches
        return
    key = digest("delta", content(delta)) if delta else ""
    if key and key not in session.cache:
        session.cache.put(key, delta)
    model = session.model
    job = Job(
        model.name, model.precision, str(model.dtype), str(session.cache.root.resolve()), session.render_batch,
        session.is_compiled, key, weights, asdict(sampler), [(s.prompt.prompt, s.noise_seed) for s in shots], batches, digest(files.names),
    )  # fmt: skip
    path = session.cache.root / "claims" / f"{digest('job', asdict(job))}.json"
    write_json(path, asdict(job))
    workers.send(str(path.resolve()))
    try:
        yield batches
    finally:
        path.unlink(missing_ok=True)


def work(job: Job, device: str) -> None:
    """Samples what of a job no other process has sampled.

    Raises:
        ExpungeError: rule "other-images", this process would compute other images.
    """
    model = _loaded(job.model, device, job.dtype)
    session = Session(model, Store(Path(job.cache)), Silent(), render_batch=job.render_batch)
    with (
        rounded(model, getattr(torch, job.render_dtype.removeprefix("torch."))),
        compiled(model, job.is_compiled) as failure,
    ):
        _sample(job, replace(session, is_compiled=job.is_compiled and failure is None), device)


def _sample(job: Job, session: Session, device: str) -> None:
    sampler, shots, model = Sampler(**job.sampler), job.shots, session.model
    images = ImageFiles(locate_images(session, shots, sampler, job.weights))
    if digest(images.names) != job.names:
        raise ExpungeError(
            f"A worker on {device} would sample other images of {job.model}.",
            rule="other-images",
            value=device,
            hint="Try the same device, versions and files for all processes.",
        )
    delta = (session.cache.get(job.delta) or {}) if job.delta else {}
    with swapped(model.network, delta):
        Renderer(session, RENDER_BATCH).keep(images, maker(model, shots, sampler), "images", [list(part) for part in job.batches])


@cache
def _loaded(name: str, device: str, dtype: str) -> DiffusionModel:
    return load(name, device, dtype)


def do(job: dict[str, Any], device: str) -> None:
    """Does a job that `shared` wrote; see `expunge.training.workers`."""
    work(Job(**job), device)
