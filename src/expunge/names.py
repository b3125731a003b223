"""Names: the closest valid name for a misspelt one, a name as part of a file name, and the two reserved names."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


def closest(name: str, valid: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The valid name that is spelt most like `name`, ignoring case; None if no similarity (`difflib`, 0 to 1) reaches `cutoff`."""
    folded = {v.casefold(): v for v in valid}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def suggest(name: str, valid: Iterable[str], see: str = "", cutoff: float = 0.4) -> str:
    """The hint of an error about an unknown name.

    Args:
        name: The unknown name.
        valid: The names that are valid, at least one.
        see: What lists the valid names, such as "`expunge ls methods`". Without it the hint lists them itself.
        cutoff: As of `closest`.

    >>> suggest("mimmu", ["mim-mu", "esd"])
    "Try 'mim-mu', one of mim-mu, esd."
    """
    names = list(valid)
    close, listed = closest(name, names, cutoff), ", ".join(names)
    if see:
        return f"Try {close!r}; {see} lists all." if close else f"Try a name that {see} lists."
    return f"Try {close!r}, one of {listed}." if close else f"Try one of {listed}."


@lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """`text` without case, and without the accents of Latin letters: equal for two spellings of one name.

    >>> folded("Paul CÉZANNE") == folded("Paul Cezanne")
    True
    """
    return re.sub("(?<=[a-z])[\u0300-\u036f]+", "", unicodedata.normalize("NFKD", text.casefold()))


def dashed(text: str) -> str:
    """`text` in lower case, with a dash for every character that is neither a letter nor a digit: part of a file name.

    >>> dashed("MiM-MU, synonym given")
    'mim-mu--synonym-given'
    """
    return "".join(c if c.isalnum() else "-" for c in text.lower())


NO_CONTROL = "none"
"""Given as an audit's control: attack no retrained model, not even the one that comes with the package."""
RETRAINED = "retrain"
"""Given as a method: the model trained again without the concept, which unlearning is compared with."""
