"""Audits made up by hand, whose every number is known."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from expunge.attacks.base import Attack, Victim
from expunge.audits.budget import Budget, Entry
from expunge.audits.cells import ExampleImage, HitCount, Reading, Result
from expunge.audits.results import Audit, CellResult, Failure
from expunge.audits.verdict import Curve
from expunge.storage.files import write_json
from expunge.storage.hashing import digest

CARD = {
    "id": "mim-mu-neon-0123456789",
    "method": "mim-mu",
    "seed": 3,
    "dtype": "fp32",
    "model": {"name": "canvas", "fingerprint": "f" * 32},
    "versions": {"expunge": "0.1.0", "torch": "2"},
}


@dataclass(frozen=True)
class Pretended(Attack):
    """Stands in an entry; never made."""

    @property
    def strengths(self) -> tuple[float, ...]:
        return (0.0, 1.0)

    def cost(self, victim: Victim) -> tuple[int, int]:
        raise NotImplementedError

    def __call__(self, victim: Victim):
        raise NotImplementedError


@dataclass(frozen=True)
class Teaching(Pretended):
    """Would teach the concept to any model."""

    teaches: ClassVar[bool] = True


class PretendedEntry(Entry):
    settings: Mapping = {}


def result(
    hits: Sequence[int],
    n: int = 16,
    name: str = "relearn",
    strengths: Sequence[float] | None = None,
    second: Sequence[int] | None = None,
    concept: str = "neon",
    shown: Mapping[int, tuple[ExampleImage, ...]] | None = None,
    unasked: Mapping[int, HitCount] | None = None,
    **given: object,
) -> Result:
    """Readings with so many hits each, at strengths 0, 1, 2, ..."""
    at = strengths or range(len(hits))
    readings = tuple(
        Reading(float(s), n, {"main": h, "second": k}, (shown or {}).get(i, ()), (unasked or {}).get(i))
        for i, (s, h, k) in enumerate(zip(at, hits, second or hits, strict=True))
    )
    usual = {"settings": {"lr": 3e-4}, "unit": "steps", "threat": "the weights", "forwards": 1200, "backwards": 800, "seconds": 12.5}
    return Result(
        id=digest(name, strengths, hits, second, n, concept, str(given)),
        attack=name,
        victim="v",
        concept=concept,
        judges=("main", "second"),
        readings=readings,
        **usual | given,
    )


def curve(hits: Sequence[int], n: int = 16, **given: object) -> Curve:
    return Curve("relearn", result(hits, n, **given), "main")


def audit(folder: Path, *done: CellResult, failures: tuple[Failure, ...] = (), control: bool = False, **given: object) -> Audit:
    """An audit of what was done, its entries those of the labels."""
    made = {"few-shot": Teaching}
    entries = {d.label: PretendedEntry(d.result.attack, d.label, made.get(d.result.attack, Pretended)()) for d in done}
    usual = {"judges": ("main", "second"), "sampler": {"steps": 12}, "untried": ("p4d",)}
    concepts = dict.fromkeys(d.result.concept for d in done) or {"neon": None}
    return Audit(
        folder,
        CARD,
        {"id": "retrain-neon-1"} if control else None,
        Budget("quick", 16, tuple(entries.values())),
        0,
        chances=dict.fromkeys(concepts, 0.1),
        done=done,
        failures=failures,
        **usual | given,
    )


def done(label: str, hits: Sequence[int], base: Sequence[int], control: Sequence[int] | None = None, **given: object) -> list[CellResult]:
    """The cells of one attack."""
    name = str(given.pop("name", label))
    second = given.pop("second", None)
    found = [
        CellResult(label, "unlearned", CARD["id"], "mim-mu", result(hits, name=name, second=second, **given)),
        CellResult(label, "base", "base", "none", result(base, name=name, **given | {"shown": None})),
    ]
    return (
        found
        if control is None
        else [*found, CellResult(label, "retrained", "retrain-neon-1", "retrain", result(control, name=name, **given | {"shown": None}))]
    )


def kept(made: Audit, run: Path) -> Audit:
    """The audit of the run in a folder, with its cells and files written as `expunge audit` does."""
    made = replace(made, folder=run / "audit", sources={"unlearned": run})
    for cell in made.done:
        write_json(made.folder / "cells" / f"{cell.result.id}.json", asdict(cell.result))
    made.write()
    return made
