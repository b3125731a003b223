"""Runs every attack of a budget on the run and on its controls. Each result is stored, so an interrupted audit continues."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.attacks.base import Attack, Attacked, Victim
from expunge.audits.budget import Budget, Entry
from expunge.audits.cells import Event, ExampleImage, HitCount, Reading, Result, ResultStore
from expunge.audits.examples import select_examples
from expunge.audits.sides import Cell, Side
from expunge.concepts.concept import Concept
from expunge.concepts.tables import concept_table
from expunge.config import version_of
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError, Inapplicable, NonFiniteLoss
from expunge.evaluation.judges import Judge, calibrate_all, judge_chunks
from expunge.evaluation.rendering import RENDER_BATCH, locate_row_images, render_rows
from expunge.evaluation.statistics import grouped
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler, Start
from expunge.models.scopes import SCOPES
from expunge.runs.cost import Pace, pace
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import digest
from expunge.storage.lock import taken
from expunge.storage.tensors import content
from expunge.training.counters import counted
from expunge.training.renderer import Renderer
from expunge.training.session import Session

TIMING_BATCH = 8
"""Samples in the batch that is timed."""
ROUNDING = 1e-6
"""Upper bound of the rounding error of a sum of shares."""
JUDGE_BATCH = 64
"""Images that a judge labels at once."""


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a cell: passes of the network for one sample, and seconds."""

    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True)
class Battery:
    """The cells of an audit, resolved before any work begins."""

    session: Session
    """Its model has the base model's weights."""
    budget: Budget
    sides: tuple[Side, ...]
    concepts: tuple[Concept, ...]
    judges: Mapping[str, tuple[Judge, ...]]
    """By the concept's target."""
    seed: int
    sampler: Sampler
    kept: ResultStore
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The arguments, as plain values, with which another process prepares the same battery."""

    @property
    def model(self) -> DiffusionModel:
        """The session's model."""
        return self.session.model

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells. The cells of one attack are consecutive, so that partial results have each attack with its controls."""
        return tuple(self._make_cell(e, c, s) for c in self.concepts for e in self.budget.entries for s in self.sides if s.has(c))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {s.run: Victim(self.session, self.concepts[0], s.delta).fingerprint for s in self.sides}

    def victim(self, cell: Cell) -> Victim:
        """The attacked model of a cell."""
        judge = next(iter(cell.judges), None)  # an estimate of the cost loads none
        given = self.seed, self.budget.pictures, self.kept.work(cell.id), judge, self.sampler
        return Victim(self.session, cell.concept, cell.side.delta, *given)

    def missing(self) -> list[Cell]:
        """The cells that have no result yet."""
        return [c for c in self.cells if self.kept.find(c.id) is None]

    def costs(self, cells: Sequence[Cell]) -> dict[str, Cost]:
        """Estimate the cost of cells, by id. Only a few timed passes are computed, and nothing is written.

        The images of a model under plain prompts are counted once, because all attacks share them.
        """
        sampled: set[tuple[str, str]] = set()
        paces: dict[str, Pace] = {}
        costs = {}
        each = self.session.model.forwards_per_image(self.sampler)
        for cell in cells:
            try:
                forwards, backwards = cell.entry.attack.cost(self.victim(cell))
            except ExpungeError:  # `run` yields the error
                costs[cell.id] = Cost(0, 0, 0.0)
                continue
            plain = (cell.side.run, cell.concept.target)
            attack = cell.entry.attack
            readings = len(attack.strengths) - (plain in sampled)
            # If the attack does not change the weights, the images without the concept are those of the first reading.
            rendered = readings if attack.changes_weights else int(plain not in sampled)
            contexts = rendered * self.unasked * (cell.side.role == "unlearned")
            sampling = (readings * self.budget.pictures + contexts) * each
            sampled.add(plain)
            scope = next((v for v in cell.entry.settings.values() if isinstance(v, str) and v in SCOPES), "xattn")
            if scope not in paces:
                paces[scope] = pace(self.model, SCOPES[scope], TIMING_BATCH)
            seconds = (sampling + max(0, forwards - backwards)) * paces[scope].forward + backwards * paces[scope].both
            costs[cell.id] = Cost(forwards + sampling, backwards, seconds)
        return costs

    def run(self) -> Iterator[Event]:
        """Run the missing cells, and yield an event for every reading. Each result is written as soon as its cell is complete.

        Progress is shown in percent of the estimated cost. An attack that raises an `ExpungeError` gives an event with the error and no
        result; the next audit tries it again.
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
        """The events of all missing cells."""
        missing = self.missing()
        for concept in self.concepts if missing else ():  # before an attack counts its passes
            calibrate_all(self.judges[concept.target], concept)
        costs = self.costs(missing)
        total, done = sum(c.seconds for c in costs.values()) or 1.0, 0.0
        queue, passed = deque(missing), set[str]()
        while queue:
            cell = queue.popleft()
            # Audits share controls. A cell that another process is computing is postponed, and waited for when no other cell is left.
            with taken(self.kept.lock(cell.id), wait=cell.id in passed) as mine:
                if not mine:
                    queue.append(cell)
                    passed.add(cell.id)
                    continue
                if self.kept.find(cell.id) is None:
                    yield from self._run_cell(cell, costs[cell.id].backwards, done, costs[cell.id].seconds / total)
            done += costs[cell.id].seconds / total

    def _run_cell(self, cell: Cell, backwards: int, done: float, share: float) -> Iterator[Event]:
        """The events of one cell. `done` is the share of the audit before it, and `share` is its own."""
        readings = len(cell.entry.attack.strengths)
        try:
            for count, reading in enumerate(self._attack(cell, backwards), 1):
                rate, strength = reading.rate(cell.judges[0].name).value, f"{reading.strength:g} {cell.entry.attack.unit}"
                yield Event(cell.name, done + share * min(1.0, count / readings), rate, strength)
        except ExpungeError as error:
            yield Event(cell.name, done + share, error=" ".join(str(error).split()), applicable=not isinstance(error, Inapplicable))

    def _attack(self, cell: Cell, backwards: int) -> Iterator[Reading]:
        """Run an attack, yield its readings, and store its result. If its loss or an image is not finite, the readings before count."""
        began, readings, cut = time.monotonic(), list[Reading](), ""
        victim, attack = self.victim(cell), cell.entry.attack
        with counted(self.model.network) as count, closing(attack(victim)) as attacked:  # type: ignore[type-var]
            try:
                for reading in attacked:
                    readings.append(self._judge_reading(cell, reading))
                    yield readings[-1]
            except ExpungeError as error:
                is_broken = isinstance(error, NonFiniteLoss) or error.rule == "not-finite"
                if not is_broken or len(readings) < 2:  # with one reading, there is only the one without an attack
                    raise
                cut = " ".join(str(error).split())
        if not readings or readings[0].strength:
            raise ExpungeError(
                f"The first reading of the attack {cell.entry.name!r} is not at strength 0.",
                rule="no-first-reading",
                value=cell.entry.name,
                hint="Try to yield a reading of the victim under plain prompts first; see docs/how-to/audit.md.",
            )
        names = tuple(j.name for j in cell.judges)
        taught = self._judge_training_images(cell, victim) if cell.side.role == "unlearned" else None
        done = Result(
            cell.id, cell.entry.name, cell.entry.settings, attack.unit, attack.threat, victim.fingerprint, cell.concept.target, names,
            select_examples(readings, names[0], cell.side.role), count.samples, backwards, round(time.monotonic() - began, 2), taught, cut,
        )  # fmt: skip
        self.kept.put(done, shared=cell.side.role != "unlearned")

    def _judge_training_images(self, cell: Cell, victim: Victim) -> HitCount | None:
        """Judge the images on which the attack trains, decoded from their latents."""
        if (latents := cell.entry.attack.trained_on(victim)) is None:
            return None
        kind, name = cell.concept.kind, cell.concept.member.name
        parts = [self.model.decode(part.to(self.model.device)) for part in latents.split(JUDGE_BATCH)]
        seen = {j.name: [label for part in parts for label in j(part, cell.concept).seen.get(kind, ())] for j in cell.judges}
        return HitCount(len(latents), {judge: labels.count(name) for judge, labels in seen.items()})

    @property
    def unasked(self) -> int:
        """Number of images of prompts without the concept, for each reading of the unlearned model."""
        return -(-self.budget.pictures // 2)

    def _judge_reading(self, cell: Cell, found: Attacked) -> Reading:
        """Sample the images of a reading, and judge them."""
        weights = {name: w.detach().cpu() for name, w in found.weights.items()}
        made_by = f"{self.model.fingerprint}+{content(weights)}" if weights else self.model.fingerprint
        name = cell.concept.member.name
        files, labels = self._render_and_judge(cell, found.cond, found.noise_seeds, found.weights, made_by, found.start)
        first = labels[cell.judges[0].name]
        shown = tuple(ExampleImage(found.cond.keys[i], i, file.name, first[i], first[i] == name) for i, file in enumerate(files))
        hits = {judge: seen.count(name) for judge, seen in labels.items()}
        by_prompt = {judge: tuple(grouped([label == name for label in seen], found.cond.keys)) for judge, seen in labels.items()}
        unasked = self._judge_contexts(cell, found, made_by) if cell.side.role == "unlearned" else None
        return Reading(found.strength, len(files), hits, shown, unasked, by_prompt)

    def _judge_contexts(self, cell: Cell, found: Attacked, made_by: str) -> HitCount:
        """Sample images of prompts without the concept under the reading's weights, and judge them."""
        contexts = list(dict.fromkeys(p.context for p in cell.concept.forget() if p.context)) or [""]
        prompts = self.model.encode([contexts[i * len(contexts) // self.unasked % len(contexts)] for i in range(self.unasked)])
        _, labels = self._render_and_judge(cell, prompts, self.victim(cell).noise(self.unasked), found.weights, made_by)
        return HitCount(self.unasked, {judge: seen.count(cell.concept.member.name) for judge, seen in labels.items()})

    def _render_and_judge(
        self, cell: Cell, cond: Cond, seeds: Sequence[int], weights: Mapping[str, Tensor], made_by: str, start: Start | None = None
    ) -> tuple[list[Path], dict[str, Sequence[str]]]:
        """Sample images under `weights`. Returns their files and, by judge, their labels of the concept's kind."""
        files = locate_row_images(self.session, cond, seeds, self.sampler, made_by, start)
        with swapped(self.model.network, weights):
            images = render_rows(self.session, cond, seeds, self.sampler, files, cell.name, start)
        judged = {j.name: judge_chunks(j, images.chunks(Renderer(self.session, RENDER_BATCH).batch), cell.concept) for j in cell.judges}
        return files, {name: judgement.seen[cell.concept.kind] for name, judgement in judged.items()}

    def _make_cell(self, entry: Entry, concept: Concept, side: Side) -> Cell:
        """A cell, with an id that depends on everything that decides its result."""
        judges = self.judges[concept.target]
        code, words = attack_code(entry.attack, modules_of(self.model)), asdict(concept.vocabulary)
        attacked = entry.name, entry.settings, entry.found_on_disk, self._fingerprints[side.run], concept_table(concept), words, self.seed
        named = [(j.name, j.weights) for j in judges]
        judged = self.budget.pictures, self.unasked, named, asdict(self.sampler), Renderer(self.session, RENDER_BATCH).key()
        return Cell(digest(*attacked, *judged, code, version_of("expunge")), entry, side, concept, judges)


def attack_code(attack: Attack, model: Iterable[str]) -> str:
    """A digest of the code that decides the readings of an attack and their labels.

    Args:
        model: names of the modules, or packages, of the model's family; see `modules_of`.
    """
    judging = "expunge.evaluation.judges", "expunge.evaluation.rendering"
    return code_digest(*sorted({*modules_of(attack), *model, *judging}), alone=[__name__])
