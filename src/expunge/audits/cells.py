"""A cell of an audit: one attack on one model, and what was seen of it. Plain JSON, kept under a hash of all that decides it."""

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
class Shown:
    """A picture that is kept for the page."""

    prompt: str
    """What it was asked for, or what stands for it in words."""
    place: int
    """Which of the reading's pictures; equal places start from equal noise."""
    picture: str
    """Its file under `pictures/`."""
    seen: str
    """What the first judge sees in it, of the concept's kind."""
    hit: bool
    """Whether that is the concept."""


@dataclass(frozen=True)
class Seen:
    """How often judges see the concept in other pictures, where it should not be."""

    n: int
    hits: Mapping[str, int]
    """By judge, the pictures in which it sees the concept."""

    @classmethod
    def of(cls, table: Mapping[str, Any] | None) -> "Seen | None":
        return cls(**table) if table else None

    def rate(self, judge: str) -> Interval:
        """The share, with its 95 % interval."""
        return wilson(self.hits[judge], self.n)


@dataclass(frozen=True)
class Reading:
    """What an attack had after so much effort."""

    strength: float
    n: int
    hits: Mapping[str, int]
    """By judge, the pictures in which it sees the concept."""
    shown: tuple[Shown, ...] = ()
    unasked: Seen | None = None
    """In pictures of prompts that do not name it: an attack may have changed what the model draws at large. None of controls and in older
    results."""
    by_prompt: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """By judge, hits and images of each prompt; empty in older results."""

    def rate(self, judge: str) -> Interval:
        """The share of images in which the judge sees the concept, with its 95 % interval, as wide as prompts differ."""
        return clustered(self.by_prompt[judge]) if judge in self.by_prompt else wilson(self.hits[judge], self.n)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Reading":
        """From JSON."""
        by_prompt = {judge: tuple((hits, n) for hits, n in parts) for judge, parts in table.get("by_prompt", {}).items()}
        nested = {"shown": tuple(Shown(**s) for s in table["shown"]), "unasked": Seen.of(table.get("unasked")), "by_prompt": by_prompt}
        return cls(**{**table, **nested})


@dataclass(frozen=True)
class Result:
    """A cell that is done."""

    id: str
    attack: str
    settings: Mapping[str, Any]
    unit: str
    """What strength counts."""
    threat: str
    """What the attacker must have."""
    victim: str
    """The attacked model's fingerprint."""
    concept: str
    judges: tuple[str, ...]
    """The first one's word counts."""
    readings: tuple[Reading, ...]
    """Of rising strength; the first is the model as it is, under plain prompts."""
    forwards: int
    """Of the attack and of drawing what it found, one sample each."""
    backwards: int
    seconds: float
    taught: Seen | None = None
    """In the pictures that the attack trained on, of which none should show it. None of an attack that trains on nothing, or on the
    concept; of a control, which is shown the same; and of results older than it."""
    cut: str = ""
    """Why there is no reading beyond the last, where the attack was to go on."""

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """The inverse of `asdict`, as JSON."""
        table = json.loads(text)
        readings = tuple(map(Reading.of, table["readings"]))
        return cls(**table | {"readings": readings, "judges": tuple(table["judges"]), "taught": Seen.of(table.get("taught"))})


@dataclass(frozen=True)
class Kept:
    """Where the results of an audit lie: `cells/<id>.json` and the pictures that they show, whole or not there at all."""

    folder: Path
    store: "Store"
    """What a control gave is kept here too: audits of other runs on the same concept find it."""

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def work(self, cell: str) -> Path:
        """Where an attack that trains keeps its checkpoints until it is done."""
        return self.folder / "work" / cell

    def lock(self, cell: str) -> Path:
        """A file that whoever is at the cell holds, in this audit or in another that shares it."""
        return self.store.root / "audits" / "locks" / cell

    def find(self, cell: str) -> Result | None:
        """A cell's result, from this audit or from another's controls; None where it is still to be done."""
        return self._read(self._own(cell), self.pictures) or self._read(self._shared(cell), self.store.root / "pictures")

    def take(self, cell: str) -> Result | None:
        """The same, and sees to it that this audit has a copy of its own."""
        if (found := self._read(self._own(cell), self.pictures)) is None and (found := self.find(cell)) is not None:
            self.put(found)
        return found

    def put(self, result: Result, shared: bool = False) -> None:
        """Keeps a result: its pictures first, so that a result that is there is whole. `shared`: for other audits too."""
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
        """A result, or None where it is missing, damaged, of another cell, or lacks its pictures: all of that can be made again.

        Raises:
            ExpungeError: it names a picture outside the folder of its pictures.
        """
        try:
            found = Result.from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        is_whole = all(inside(pictures, s.picture).exists() for r in found.readings for s in r.shown)
        return found if is_whole and found.id == file.stem else None


Role = Literal["unlearned", "base", "retrained"]
"""Who is attacked: the run, the untouched model (which shows that the attack works), or one that never saw the concept (which
shows that it does not simply teach it)."""


@dataclass(frozen=True)
class Event:
    """A reading that was taken, or a cell that could not be done."""

    cell: str
    done: float
    """The part of all the work that is behind, by its price."""
    seen: float | None = None
    """The share of pictures in which the first judge sees the concept."""
    strength: str = ""
    """Of the attack, with its unit."""
    error: str = ""
    """One line."""
    applicable: bool = True
    """Whether the cell failed, or had nothing to try on this model."""
