"""The batch of step k: a function of the seed and the step alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial

import torch

from expunge.concepts.groups import Subject
from expunge.diffusion.batch import LEADS, Batch, Need
from expunge.diffusion.types import Cond, Noised, Point, Spans
from expunge.methods.base import Training
from expunge.models.base import DiffusionModel
from expunge.storage.hashing import seed_of
from expunge.training.anything import OtherNames, anything_bank, other_words, turned_bank
from expunge.training.banks import Bank, Replaced, forget_bank, replaced_bank, retain_bank, stand_in_bank, trajectory_bank
from expunge.training.networks import ReferenceCache
from expunge.training.replacement import Replacements, choose
from expunge.training.session import Session


@dataclass(frozen=True)
class Batches:
    """`batches(step)`: the parts that a method declared, sampled from their banks."""

    model: DiffusionModel
    concept: Subject
    needs: frozenset[Need]
    banks: Mapping[Need, Bank]
    seed: int
    batch_size: int
    references: ReferenceCache = field(default_factory=ReferenceCache)
    """What the reference predicts at the banks' points, as far as it is known."""
    replacement: Replacements | None = None
    """What replaces the concept, where the method needs it."""

    def __call__(self, step: int) -> Batch:
        return self.split(step, 1)[0]

    def split(self, step: int, parts: int, taken: slice = slice(None)) -> list[Batch]:
        """The same batch in equal parts, or those `taken`, for accumulation: every part that the method reads is cut alike."""
        chosen = {need: picks_of_each(self._stream(need), step, bank.groups, self.batch_size) for need, bank in self.banks.items()}
        size = self.batch_size // parts
        return [self._rows(step, {n: at[i : i + size] for n, at in chosen.items()}) for i in range(0, self.batch_size, size)[taken]]

    def _stream(self, need: Need) -> int:
        # Parts of different streams do not keep meeting the same partners.
        return self.seed if need in {"forget", "trajectory"} else seed_of(self.seed, need)

    def _rows(self, step: int, at: Mapping[Need, list[int]]) -> Batch:
        device, encode = self.model.device, self.model.encode
        parts: dict[Need, Point | Cond | Spans] = {n: _moved(self.banks[n].points, at[n], device) for n in self.needs & self.banks.keys()}
        if self.needs & CONDS:
            lead = _lead(self.needs)
            bank, rows = self.banks[lead], at[lead]
            prompts = [bank.prompts[i] for i in rows]
            conds: dict[Need, list[str]] = {
                "context": [p.context for p in prompts],
                "marginal": [bank.marginals[i] for i in rows],
                "sibling": [bank.siblings[i] for i in rows],
                "anchor": [p.anchor for p in prompts],
                "replacement": [bank.replacements[i] for i in rows] if bank.replacements else [],
            }
            parts |= {need: encode(texts) for need, texts in conds.items() if need in self.needs}
            if "spans" in self.needs:
                parts["spans"] = self.model.tokens([p.prompt for p in prompts], self.concept.names)
        if self.needs & REPLACED:
            bank, rows = self.banks["replaced"], at["replaced"]
            of_replaced: dict[Need, tuple[str, ...]] = {"replaced_as": bank.replacements, "other_words": bank.other_words}
            parts |= {need: encode([texts[i] for i in rows]) for need, texts in of_replaced.items() if need in self.needs}
        return Batch(step, encode(self.concept.bare), self.model.null(), parts)


CONDS: frozenset[Need] = frozenset({"context", "marginal", "sibling", "anchor", "replacement", "spans"})
"""The needs that are prompts or about them, which go row by row with those of a part."""

REPLACED: frozenset[Need] = frozenset({"replaced_as", "other_words"})
"""The needs that are prompts of the images of `replaced`, row by row."""


def _lead(needs: frozenset[Need]) -> Need:
    return next((need for need in LEADS if need in needs), "forget")


def _moved(points: Point | Noised, at: list[int], device: torch.device) -> Point | Noised:
    x_t, t, cond = points.x_t[at].to(device), points.t[at].to(device), points.cond[at].to(device)
    keys = tuple(points.keys[i] for i in at)
    return Noised(x_t, t, cond, keys, points.goal[at].to(device)) if isinstance(points, Noised) else Point(x_t, t, cond, keys)


def gather(session: Session, concept: Subject, needs: frozenset[Need], training: Training, seed: int) -> Batches:
    """Makes the banks that `needs` ask for, and the batches over them."""
    banks: dict[Need, Bank] = {}
    references = ReferenceCache()
    others = cache(partial(OtherNames.of, session.model, concept, seed))  # found once, and where they are read alone
    # In the order of LEADS and not of a set, which differs from one process to the next.
    for need in (*LEADS, "retain"):
        if need not in needs and not (needs & CONDS and need == _lead(needs)):
            continue
        match need:
            case "forget":
                banks[need] = forget_bank(session, concept, training, seed)
            case "trajectory":
                banks[need] = trajectory_bank(session, concept, training, seed, references)
            case "surrogate_trajectory":
                replaced: Replaced = "marginal" if "marginal" in needs else "context" if "context" in needs else "null"
                banks[need] = trajectory_bank(session, concept, training, seed, references, replaced)
            case "retain":
                banks[need] = retain_bank(session, concept, training, seed)
            case _:
                banks[need] = stand_in_bank(session, concept, need, training, seed)
    replacement = None
    if needs & {"replacement", "replaced", *REPLACED}:
        shown = banks.get("forget") or forget_bank(session, concept, training, seed)
        replacement = choose(session.model, concept, shown)
        banks |= {need: replacement.beside(bank) for need, bank in banks.items() if bank.prompts}
        bank = replaced_bank(session, concept, replacement, training, seed)
        if "other_words" in needs:
            bank = replace(bank, other_words=other_words(session.model, concept, others(), bank.points.cond.keys, seed))
        banks |= {"replaced": bank} if needs & {"replaced", *REPLACED} else {}
    if "anything" in needs or training.whiten_layers:
        banks["anything"] = anything_bank(session, concept, others(), training, seed)
    if "turned" in needs:
        banks["turned"] = turned_bank(session, concept, others(), training, seed)
    return Batches(session.model, concept, needs, banks, seed, training.batch_size, references, replacement)


def picks(seed: int, step: int, size: int, batch: int) -> list[int]:
    """Indices of a step's batch: consecutive slices of a permutation for each epoch, so that every point is used equally often."""
    return _visits(seed, step * batch, size, batch)


def _visits(seed: int, position: int, size: int, count: int) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        epoch, place = divmod(position, size)
        part = _order(seed, epoch, size)[place : place + count - len(chosen)]
        chosen += part
        position += len(part)
    return chosen


@lru_cache(maxsize=256)
def _order(seed: int, epoch: int, size: int) -> list[int]:
    """The permutation of an epoch: most steps read one that the step before read too."""
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))).tolist()
    return order


def picks_of_each(seed: int, step: int, groups: Sequence[Sequence[int]], batch: int) -> list[int]:
    """The same where the points are of several concepts: these take turns, row by row and from one step to the next.

    Each concept is in every batch that has room for all, equally often in the long run, and goes over its own points evenly.
    """
    if len(groups) == 1:
        return [groups[0][i] for i in picks(seed, step, len(groups[0]), batch)]
    turns = [(step * batch + row) % len(groups) for row in range(batch)]
    visits = {}
    for at, group in enumerate(groups):
        begun = -((at - step * batch) // len(groups))  # the turns that it has had, rounded up
        visits[at] = iter(_visits(seed_of(seed, "concept", at), begun, len(group), turns.count(at)))
    return [groups[at][next(visits[at])] for at in turns]
