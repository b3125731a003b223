"""Which points a step looks at: whose turn it is, as a function of (seed, step) alone."""

from collections.abc import Sequence

import torch

from expunge.cache import digest


def seed_of(*parts: object) -> int:
    """A seed that is a function of `parts`: streams of different names are independent."""
    return int(digest(*parts)[:15], 16)


def picks(seed: int, step: int, size: int, batch: int) -> list[int]:
    """Indices of a step's batch: consecutive slices of a permutation for each epoch, so that every point is used equally often."""
    return _visits(seed, step * batch, size, batch)


def _visits(seed: int, position: int, size: int, count: int) -> list[int]:
    chosen: list[int] = []
    while len(chosen) < count:
        epoch, place = divmod(position, size)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch)))
        part = order[place : place + count - len(chosen)].tolist()
        chosen += part
        position += len(part)
    return chosen


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
