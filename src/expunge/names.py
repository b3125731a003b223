"""Names: reserved ones, the nearest valid one for a misspelt one, and a name as part of a file's name."""

import difflib
from collections.abc import Collection


def nearest(name: str, valid: Collection[str]) -> str:
    """A hint for a misspelt name: " (nearest: 'esd')", or nothing."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.4)
    return f" (nearest: {close[0]!r})" if close else ""


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
