"""The battery: every attack of a budget on the run and on its controls, each cell done once, whatever interrupts it."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim
from expunge.audits.budget import Budget, Entry
from expunge.audits.cells import Event, Kept, Reading, Result, Role, Seen, Shown
from expunge.audits.verdict import best_of
from expunge.concepts.concept import Concept
from expunge.concepts.tables import concept_table
from expunge.config import version_of
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError, Inapplicable, NonFiniteLoss
from expunge.evaluation.judges import Judge, judge_images
from expunge.evaluation.rendering import render_rows, rows_kept_at
from expunge.evaluation.statistics import grouped
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.models.scopes import SCOPES
from expunge.runs.cost import Pace, pace
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import digest
from expunge.storage.lock import taken
from expunge.storage.tensors import content
from expunge.training.counters import counted
from expunge.training.identity import image_key
from expunge.training.session import Session

SHOWN = 6
"""Pictures of a reading that are kept for the page."""
TIMED = 8
"""Samples in the batch that is timed."""
ROUNDING = 1e-6
"""Rounding error of a sum of parts that is whole."""
JUDGED = 64
"""Pictures that a judge looks at together."""


@dataclass(frozen=True)
class Side:
    """One of the models that are attacked."""

    role: Role
    card: Mapping[str, Any] | None
    """Of its run; None for the untouched model."""
    delta: Mapping[str, Tensor]
    folder: Path | None = None
    """Of its run."""
    never_saw: frozenset[tuple[str, str]] = frozenset()
    """What a retrained one was trained without, by `Concept.identity`: attacks on anything else say nothing of it."""

    @property
    def run(self) -> str:
        """Its run's id; "base" for the untouched model."""
        return self.card["id"] if self.card else "base"

    @property
    def method(self) -> str:
        return self.card["method"] if self.card else "none"

    def shares(self, concept: Concept) -> bool:
        return self.role != "retrained" or concept.identity in self.never_saw


@dataclass(frozen=True)
class Cell:
    """One attack on one model: the unit of work."""

    id: str
    entry: Entry
    side: Side
    concept: Concept
    judges: tuple[Judge, ...]

    @property
    def name(self) -> str:
        return f"{self.entry.label} on {self.side.role}, {self.concept.target}"


@dataclass(frozen=True)
class Cost:
    """What a cell takes: evaluations of the network for one sample each, and about how long."""

    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True)
class Battery:
    """All that an audit does, resolved before any work begins."""

    session: Session
    """Its model has the base model's weights."""
    budget: Budget
    sides: tuple[Side, ...]
    concepts: tuple[Concept, ...]
    judges: Mapping[str, tuple[Judge, ...]]
    """By the concept's target."""
    seed: int
    sampler: Sampler
    kept: Kept

    @property
    def model(self) -> DiffusionModel:
        return self.session.model

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Attack by attack, so that an early look at the results sees each one beside its controls."""
        return tuple(self._cell(e, c, s) for c in self.concepts for e in self.budget.entries for s in self.sides if s.shares(c))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {s.run: Victim(self.session, self.concepts[0], s.delta).fingerprint for s in self.sides}

    def victim(self, cell: Cell) -> Victim:
        return Victim(self.session, cell.concept, cell.side.delta, self.seed, self.budget.pictures, self.kept.work(cell.id))

    def missing(self) -> list[Cell]:
        return [c for c in self.cells if self.kept.find(c.id) is None]

    def costs(self, cells: Sequence[Cell]) -> dict[str, Cost]:
        """Prices cells, by id; nothing is written, and nothing but a few timed passes is computed.

        A model's pictures under plain prompts are counted once: all attacks share them.
        """
        drawn: set[tuple[str, str]] = set()
        paces: dict[str, Pace] = {}
        costs = {}
        each = self.sampler.steps * (2 if self.sampler.guidance_scale > 1 else 1)
        for cell in cells:
            try:
                forwards, backwards = cell.entry.attack.cost(self.victim(cell))
            except ExpungeError:  # it will say why when it is its turn
                costs[cell.id] = Cost(0, 0, 0.0)
                continue
            plain = (cell.side.run, cell.concept.target)
            attack = cell.entry.attack
            readings = len(attack.strengths) - (plain in drawn)
            # Under weights that stay what they are the unasked pictures are those of the first reading.
            unasked = readings if attack.changes_weights else int(plain not in drawn)
            beside = unasked * self.unasked * (cell.side.role == "unlearned")
            drawing = (readings * self.budget.pictures + beside) * each
            drawn.add(plain)
            scope = next((v for v in cell.entry.settings.values() if isinstance(v, str) and v in SCOPES), "xattn")
            if scope not in paces:
                paces[scope] = pace(self.model, SCOPES[scope], TIMED)
            seconds = (drawing + max(0, forwards - backwards)) * paces[scope].forward + backwards * paces[scope].both
            costs[cell.id] = Cost(forwards + drawing, backwards, seconds)
        return costs

    def run(self) -> Iterator[Event]:
        """Does what is missing, cell by cell, and yields an event for every reading. What is done is kept at once.

        Progress is shown in per cent of the price. An attack that cannot be made, by an `ExpungeError`, gives an event with the error
        and is left out; the next audit tries it again.
        """
        shown = 0
        with self.session.progress.task("per cent of the audit", 100) as task:
            for event in self._events():
                note = event.cell if event.seen is None else f"{event.cell}: seen in {event.seen:.0%} after {event.strength}"
                if (done := int(100 * event.done + ROUNDING)) > shown:
                    task.advance(note, done - shown)
                    shown = done
                yield event

    def _events(self) -> Iterator[Event]:
        missing = self.missing()
        costs = self.costs(missing)
        whole, behind = sum(c.seconds for c in costs.values()) or 1.0, 0.0
        queue, passed = deque(missing), set[str]()
        while queue:
            cell = queue.popleft()
            # A control is that of other audits too: one that another process is at comes last, when there is nothing else to do.
            with taken(self.kept.lock(cell.id), wait=cell.id in passed) as mine:
                if not mine:
                    queue.append(cell)
                    passed.add(cell.id)
                    continue
                if self.kept.find(cell.id) is None:
                    yield from self._told(cell, costs[cell.id].backwards, behind, costs[cell.id].seconds / whole)
            behind += costs[cell.id].seconds / whole

    def _told(self, cell: Cell, backwards: int, behind: float, share: float) -> Iterator[Event]:
        """Tells of a cell's readings as they come, or of why there are none. So much of all lies behind, and so much is its share."""
        readings = len(cell.entry.attack.strengths)
        try:
            for count, reading in enumerate(self._attack(cell, backwards), 1):
                rate, strength = reading.rate(cell.judges[0].name).value, f"{reading.strength:g} {cell.entry.attack.unit}"
                yield Event(cell.name, behind + share * min(1.0, count / readings), rate, strength)
        except ExpungeError as error:
            yield Event(cell.name, behind + share, error=" ".join(str(error).split()), applicable=not isinstance(error, Inapplicable))

    def _attack(self, cell: Cell, backwards: int) -> Iterator[Reading]:
        """Attacks, yields each reading, and keeps the result; of an attack whose loss is no longer finite, the readings until then."""
        began, readings, cut = time.monotonic(), list[Reading](), ""
        victim, attack = self.victim(cell), cell.entry.attack
        with counted(self.model.network) as count, closing(attack(victim)) as attacked:  # type: ignore[type-var]
            try:
                for found in attacked:
                    readings.append(self._read(cell, found))
                    yield readings[-1]
            except NonFiniteLoss as error:
                if len(readings) < 2:  # the model as it is, and nothing of the attack
                    raise
                cut = " ".join(str(error).split())
        if not readings or readings[0].strength:
            raise ExpungeError(
                f"an attack's first reading is the model as it is: {cell.entry.name} gave none at strength 0; see docs/how-to/audit.md"
            )
        names = tuple(j.name for j in cell.judges)
        taught = self._taught(cell, victim) if cell.side.role == "unlearned" else None
        done = Result(
            cell.id, cell.entry.name, cell.entry.settings, attack.unit, attack.threat, victim.fingerprint, cell.concept.target, names,
            _trimmed(readings, names[0]), count.samples, backwards, round(time.monotonic() - began, 2), taught, cut,
        )  # fmt: skip
        self.kept.put(done, shared=cell.side.role != "unlearned")

    def _taught(self, cell: Cell, victim: Victim) -> Seen | None:
        """Has the pictures judged that the attack has trained on, as the autoencoder gives them back."""
        if (latents := cell.entry.attack.trained_on(victim)) is None:
            return None
        kind, name = cell.concept.kind, cell.concept.member.name
        parts = [self.model.decode(part.to(self.model.device)) for part in latents.split(JUDGED)]
        seen = {j.name: [label for part in parts for label in j(part, cell.concept).seen.get(kind, ())] for j in cell.judges}
        return Seen(len(latents), {judge: labels.count(name) for judge, labels in seen.items()})

    @property
    def unasked(self) -> int:
        """Pictures of a reading of the unlearned model that are drawn of prompts without the concept."""
        return -(-self.budget.pictures // 2)

    def _read(self, cell: Cell, found: Attacked) -> Reading:
        """Draws the pictures of a reading and has them judged."""
        weights = {name: w.detach().cpu() for name, w in found.weights.items()}
        made_by = f"{self.model.fingerprint}+{content(weights)}" if weights else self.model.fingerprint
        name = cell.concept.member.name
        files, labels = self._judged(cell, found.cond, found.noise_seeds, found.weights, made_by)
        first = labels[cell.judges[0].name]
        shown = tuple(Shown(found.cond.keys[i], i, file.name, first[i], first[i] == name) for i, file in enumerate(files))
        hits = {judge: seen.count(name) for judge, seen in labels.items()}
        by_prompt = {judge: tuple(grouped([label == name for label in seen], found.cond.keys)) for judge, seen in labels.items()}
        unasked = self._unasked(cell, found, made_by) if cell.side.role == "unlearned" else None
        return Reading(found.strength, len(files), hits, shown, unasked, by_prompt)

    def _unasked(self, cell: Cell, found: Attacked, made_by: str) -> Seen:
        """The same of the prompts without the concept."""
        contexts = list(dict.fromkeys(p.context for p in cell.concept.forget() if p.context)) or [""]
        asked = self.model.encode([contexts[i * len(contexts) // self.unasked % len(contexts)] for i in range(self.unasked)])
        _, labels = self._judged(cell, asked, self.victim(cell).noise(self.unasked), found.weights, made_by)
        return Seen(self.unasked, {judge: seen.count(cell.concept.member.name) for judge, seen in labels.items()})

    def _judged(
        self, cell: Cell, cond: Cond, seeds: Sequence[int], weights: Mapping[str, Tensor], made_by: str
    ) -> tuple[list[Path], dict[str, Sequence[str]]]:
        """Pictures under some weights, where they are kept, and what each judge sees in them, of the concept's kind."""
        files = rows_kept_at(self.session, cond, seeds, self.sampler, made_by)
        with swapped(self.model.network, weights):
            pictures = render_rows(self.session, cond, seeds, self.sampler, files, cell.name)
        judged = {j.name: judge_images(j, pictures, cell.concept) for j in cell.judges}
        return files, {name: judgement.seen[cell.concept.kind] for name, judgement in judged.items()}

    def _cell(self, entry: Entry, concept: Concept, side: Side) -> Cell:
        judges = self.judges[concept.target]
        code, words = attack_code(entry.attack, modules_of(self.model)), asdict(concept.vocabulary)
        attacked = entry.name, entry.settings, entry.found_on_disk, self._fingerprints[side.run], concept_table(concept), words, self.seed
        named = [(j.name, j.weights) for j in judges]
        looked_at = self.budget.pictures, self.unasked, named, asdict(self.sampler), image_key(self.model)
        return Cell(digest(*attacked, *looked_at, code, version_of("expunge")), entry, side, concept, judges)


def attack_code(attack: Attack, model: Iterable[str]) -> str:
    """A digest of the code that decides what an attack finds and what judges see in it.

    Args:
        model: names of the modules, or packages, of the model's family; see `modules_of`.
    """
    looking = "expunge.evaluation.judges", "expunge.evaluation.rendering"
    return code_digest(*sorted({*modules_of(attack), *model, *looking}), alone=[__name__])


def _trimmed(readings: Sequence[Reading], judge: str) -> tuple[Reading, ...]:
    """With few pictures left to show: of the most successful reading those first in which the concept is seen, and, at the same
    places, of the last and of the model as it is."""
    best = best_of(readings, judge)
    places = [s.place for s in sorted(best.shown, key=lambda s: (not s.hit, s.place))[:SHOWN]]
    telling = (readings[0], best, readings[-1])
    return tuple(replace(r, shown=tuple(s for p in places for s in r.shown if s.place == p and r in telling)) for r in readings)
