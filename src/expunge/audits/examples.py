"""Which images of an attack are kept to be shown."""

from collections.abc import Sequence
from dataclasses import replace

from expunge.audits.cells import Reading, Role
from expunge.audits.verdict import best_of

EXAMPLES = 6
"""Images of a reading that the page shows."""
PLAIN = 24
"""Images that are kept of a control without an attack, so that one of them has the prompt and the noise of any example of the run."""


def select_examples(readings: Sequence[Reading], judge: str, role: Role) -> tuple[Reading, ...]:
    """The readings with at most `EXAMPLES` images to show in the best, the first and the last, and none in the others.

    They are the first images of the best reading, those in which the judge sees the concept before the others, and the images with the
    same indices of the first and the last reading. Of a control the first reading has its first `PLAIN` images.
    """
    best = best_of(readings, judge)
    places = [s.place for s in sorted(best.shown, key=lambda s: (not s.hit, s.place))[:EXAMPLES]]
    chosen = (readings[0], best, readings[-1])
    found = [replace(r, shown=tuple(s for p in places for s in r.shown if s.place == p and r in chosen)) for r in readings]
    if role != "unlearned":
        found[0] = replace(readings[0], shown=readings[0].shown[:PLAIN])
    return tuple(found)
