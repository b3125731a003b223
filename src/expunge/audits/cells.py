"""A cell of an audit is one attack on one model. Its result is stored as JSON, named by a hash of everything that decides it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from expunge.evaluation.statistics import Interval, clustered, wilson
from expunge.storage.files import inside, write_atomically, write_json

if TYPE_CHECKING:
    from expunge.storage.cache import Store  # which imports torch


@dataclass(frozen=True)
class ExampleImage:
    """An image of a reading that the audit's page shows."""

    prompt: str
    """The prompt, or a readable name of a condition that is no text."""
    place: int
    """The index of the image in the reading; equal indices start from equal noise."""
    picture: str
    """The file name in `pictures/`."""
    seen: str
    """The first judge's label, of the concept's kind."""
    hit: bool
    """Whether the label is the concept."""


@dataclass(frozen=True)
class HitCount:
    """How often judges see the concept in a set of images that should not show it."""

    n: int
    """Number of images."""
    hits: Mapping[str, int]
    """By judge, the number of images in which it sees the concept."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any] | None) -> "HitCount | None":
        """From JSON; None for None."""
        return cls(**table) if table else None

    def rate(self, judge: str) -> Interval:
        """The share of images in which the judge sees the concept, with its 95 % interval."""
        return wilson(self.hits[judge], self.n)


@dataclass(frozen=True)
class Reading:
    """The judged images of an attack at one strength."""

    strength: float
    """The effort, in the attack's unit."""
    n: int
    """Number of images."""
    hits: Mapping[str, int]
    """By judge, the number of images in which it sees the concept."""
    shown: tuple[ExampleImage, ...] = ()
    """The images that the page shows."""
    unasked: HitCount | None = None
    """The same for images of prompts that do not name the concept: an attack may change what the model generates for any prompt. None for
    controls and in older results."""
    by_prompt: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """By judge, hits and images of each prompt; empty in older results."""

    def rate(self, judge: str) -> Interval:
        """The share of images in which the judge sees the concept, with its 95 % interval, as wide as prompts differ."""
        return clustered(self.by_prompt[judge]) if judge in self.by_prompt else wilson(self.hits[judge], self.n)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Reading":
        """From JSON."""
        by_prompt = {judge: tuple((hits, n) for hits, n in parts) for judge, parts in table.get("by_prompt", {}).items()}
        nested = {
            "shown": tuple(ExampleImage(**s) for s in table["shown"]),
            "unasked": HitCount.from_table(table.get("unasked")),
            "by_prompt": by_prompt,
        }
        return cls(**{**table, **nested})


@dataclass(frozen=True)
class Result:
    """The result of a cell."""

    id: str
    attack: str
    settings: Mapping[str, Any]
    unit: str
    """The unit of strength."""
    threat: str
    """What the attacker must have."""
    victim: str
    """The attacked model's fingerprint."""
    concept: str
    judges: tuple[str, ...]
    """The names of the judges. The first decides the verdict; the second checks it."""
    readings: tuple[Reading, ...]
    """The readings, in increasing strength. The first is the attacked model under plain prompts."""
    forwards: int
    """Forward passes of one sample, of the attack and of its images."""
    backwards: int
    """Backward passes of one sample."""
    seconds: float
    """Duration of the attack with its images."""
    taught: HitCount | None = None
    """The count for the images on which the attack trained and which should not show the concept. None for an attack that trains on nothing
    or on the concept, for a control, which trains on the same images, and in older results."""
    cut: str = ""
    """Why the attack ended before its last strength; empty if it did not."""

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The inverse of `asdict`, as JSON."""
        table = json.loads(text)
        readings = tuple(map(Reading.from_table, table["readings"]))
        return cls(**table | {"readings": readings, "judges": tuple(table["judges"]), "taught": HitCount.from_table(table.get("taught"))})


@dataclass(frozen=True)
class ResultStore:
    """The results of an audit: `cells/<id>.json` and the images that they show. A result is stored completely or not at all."""

    folder: Path
    store: "Store"
    """The cache, which also has the results of controls, so that audits of other runs on the same concept use them."""

    @property
    def pictures(self) -> Path:
        """The folder of the images."""
        return self.folder / "pictures"

    def work(self, cell: str) -> Path:
        """The folder of the checkpoints of an attack that trains, until the attack ends."""
        return self.folder / "work" / cell

    def lock(self, cell: str) -> Path:
        """The lock file of a cell, for all audits that share it."""
        return self.store.root / "audits" / "locks" / cell

    def find(self, cell: str) -> Result | None:
        """The result of a cell, from this audit or from the controls of another; None if there is none yet."""
        return self._read(self._own(cell), self.pictures) or self._read(self._shared(cell), self.store.root / "pictures")

    def take(self, cell: str) -> Result | None:
        """The result of a cell, as `find`; this audit then has its own copy."""
        if (found := self._read(self._own(cell), self.pictures)) is None and (found := self.find(cell)) is not None:
            self.put(found)
        return found

    def put(self, result: Result, shared: bool = False) -> None:
        """Write a result, with `shared` for other audits too. Its images are written first, so that a result that exists is complete."""
        for name in {s.picture for r in result.readings for s in r.shown}:
            if not (own := inside(self.pictures, name)).exists():
                write_atomically(own, inside(self.store.root / "pictures", name).read_bytes())
        for file in (self._own(result.id), *([self._shared(result.id)] if shared else [])):
            write_json(file, asdict(result))
        shutil.rmtree(self.work(result.id), ignore_errors=True)

    def _own(self, cell: str) -> Path:
        return self.folder / "cells" / f"{cell}.json"

    def _shared(self, cell: str) -> Path:
        return self.store.root / "audits" / f"{cell}.json"

    @staticmethod
    def _read(file: Path, pictures: Path) -> Result | None:
        """A result, or None if it is missing, damaged, of another cell, or without its images. It can be computed again.

        Raises:
            ExpungeError: it names an image outside the folder of its images.
        """
        try:
            found = Result.from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_whole = all(inside(pictures, s.picture).exists() for r in found.readings for s in r.shown)
        return found if is_whole and found.id == file.stem else None


Role = Literal["unlearned", "base", "retrained"]
"""The attacked model: the run; the base model, which shows that the attack works; or a model that never saw the concept, which shows that
the attack does not simply teach it."""


@dataclass(frozen=True)
class Event:
    """A reading, or a cell that failed."""

    cell: str
    done: float
    """The completed share of the audit's estimated cost."""
    seen: float | None = None
    """The share of images in which the first judge sees the concept."""
    strength: str = ""
    """The strength of the reading, with its unit."""
    error: str = ""
    """The message of the error, in one line."""
    applicable: bool = True
    """False if the attack has nothing to try on this model or concept, which is no failure."""
