"""Names: reserved ones, the closest valid one for a misspelt one, and a name as part of a file's name."""

import difflib
from collections.abc import Iterable


def closest(name: str, valid: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The valid name that is spelt most like `name`, whatever its case; None where none is alike.

    A larger `cutoff`, from 0 to 1, asks for more likeness (`difflib.SequenceMatcher.ratio`).

    >>> closest("ESDD", ["uce", "esd"])
    'esd'
    """
    folded = {v.casefold(): v for v in valid}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.4) -> str:
    """The same as a part of a message: " (nearest: 'esd')", or nothing."""
    found = closest(name, valid, cutoff)
    return f" (nearest: {found!r})" if found else ""


def dashed(text: str) -> str:
    """A part of a file's name.

    >>> dashed("MiM-MU, synonym given")
    'mim-mu--synonym-given'
    """
    return "".join(c if c.isalnum() else "-" for c in text.lower())


NO_CONTROL = "none"
"""In the place of a control: no retrained model is attacked, not even one that the package brings."""
RETRAINED = "retrain"
"""Stands in the place of a method for a model that was trained without the concept: what unlearning is measured against."""
