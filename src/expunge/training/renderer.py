"""Samples images: evaluations, training, audits and the information meter all get theirs here, batch by batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from expunge.errors import ExpungeError
from expunge.storage.hashing import digest
from expunge.storage.lock import all_taken
from expunge.training.batch_size import batch_of, is_out_of_memory
from expunge.training.identity import image_key
from expunge.training.session import Session

T = TypeVar("T")
T_in = TypeVar("T_in", contravariant=True)

Make = Callable[[list[int]], Iterable[T]]
"""Samples the images of these indices."""


class Kept(Protocol[T_in]):
    """Where images are kept, each under a name that covers everything that decides it."""

    @property
    def names(self) -> Sequence[str]:
        """The name of each image. Equal names are one image."""

    def has(self, index: int) -> bool:
        """Whether the image is there, whole."""

    def put(self, index: int, image: T_in) -> None:
        """Keeps an image."""


@dataclass(frozen=True)
class Renderer:
    """Samples with the model of a session, in its batches.

    Args:
        usual: images at once where neither the user nor the model says how many.
    """

    session: Session
    usual: int

    @property
    def batch(self) -> int:
        """Images that are sampled at once."""
        return batch_of(self.session.model, self.session.cache, self.session.render_batch, self.usual)

    def key(self, *modules: str) -> dict[str, Any]:
        """What decides an image, or its latents, besides weights, prompt, noise and sampler: a part of the key that it is cached under.

        The last digits of an image depend on how many are sampled at once. The last batch of a measurement may be smaller than the
        others, and a batch from which some are cached is smaller too: these differences are not covered.

        Args:
            modules: names of the modules that ask the model for it.
        """
        how = {"render_batch": self.batch} | ({"compiled": True} if self.session.is_compiled else {})
        return image_key(self.session.model, *modules) | how

    def parts(self, count: int, title: str) -> Iterator[slice]:
        """Slices of `count` images, a batch at a time; shows how many the caller is done with."""
        with self.session.progress.task(title, count) as task:
            for start in range(0, count, self.batch):
                part = slice(start, min(start + self.batch, count))
                yield part
                task.advance(by=part.stop - part.start)

    def keep(self, kept: Kept[T], make: Make[T], title: str, batches: list[list[int]] | None = None) -> None:
        """Samples the images that are missing, and keeps each batch as soon as it is made. One batch is in memory at a time.

        The processes of a session take turns at the batches, so their cache must be one folder. Any other process with the same cache
        takes part too: a batch that it is sampling is left to it.

        Args:
            batches: of what is missing; default `batches(kept)`.

        Raises:
            ExpungeError: rule "out-of-memory", a single image does not fit; the cache cannot be written.
        """
        processes = self.session.distributed
        missing = self.batches(kept) if batches is None else batches
        processes.wait()  # until all have listed the same
        self._sample(kept, missing[processes.rank :: processes.count], make, title)
        processes.wait()
        if processes.count > 1:  # what another machine has kept in a cache of its own
            self._sample(kept, self.batches(kept), make, title)
            processes.wait()

    def batches(self, kept: Kept[T]) -> list[list[int]]:
        """The indices of the missing images, batch by batch.

        Batches begin at multiples of their size among all images, so that an interrupted measurement goes on with the batches of a
        straight one. Where most are cached, neighbours share a batch.
        """
        found: list[list[int]] = []
        for start in range(0, len(kept.names), self.batch):
            missing = [i for i in range(start, min(start + self.batch, len(kept.names))) if not kept.has(i)]
            if found and len(found[-1]) + len(missing) <= self.batch:
                found[-1] += missing
            elif missing:
                found.append(missing)
        return found

    def _sample(self, kept: Kept[T], batches: Sequence[list[int]], make: Make[T], title: str) -> None:
        """Samples batches. One that another process is sampling is postponed, and waited for when no other is left."""
        left = deque((part, False) for part in batches)
        with self.session.progress.task(title, sum(map(len, batches))) as task:
            while left:
                part, is_last_resort = left.popleft()
                claims = self._claims(kept.names, part)
                with all_taken(claims, wait=is_last_resort) as is_mine:
                    if not is_mine:
                        left.append((part, True))
                        continue
                    if missing := [i for i in part if not kept.has(i)]:
                        for i, image in zip(missing, _made(make, missing), strict=True):
                            kept.put(i, image)
                    _drop(claims)
                task.advance(by=len(part))

    def _claims(self, names: Sequence[str], part: Sequence[int]) -> list[Path]:
        """What a process has to itself while it samples a batch: a file for each full batch of the measurement from which an image is.

        A claim names missing and kept images alike. Processes do not all list the same as missing, since images appear one by one, so
        that a claim on what is missing would leave two of them free to sample one image.
        """
        size, folder = self.batch, self.session.cache.root / "claims"
        return [folder / digest(list(names[start : start + size])) for start in {i - i % size for i in part}]


def _drop(claims: Sequence[Path]) -> None:
    """Removes the files of claims whose images are kept: who waited for them finds the images."""
    for file in (file for claim in claims for file in (claim, claim.with_name(f"{claim.name}.lock"))):
        with suppress(OSError):  # Windows keeps a file that is open
            file.unlink(missing_ok=True)


def _made(make: Make[T], indices: list[int]) -> list[T]:
    """The images, in halves where they do not fit into memory at once.

    Raises:
        ExpungeError: rule "out-of-memory", a single one does not fit.
    """
    try:
        return list(make(indices))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(indices) == 1:
            raise ExpungeError(
                "A single image does not fit into memory.",
                rule="out-of-memory",
                value=1,
                hint="Try --dtype bf16 where the command has it, or another device.",
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(indices) // 2
    return [*_made(make, indices[:half]), *_made(make, indices[half:])]
