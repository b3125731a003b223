"""Names, found in a text as whole words: a pattern of a few, and a set of many."""

import re
from collections.abc import Iterable

UNSPACED = (
    r"\u2e80-\u2fff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"  # Han, kana
    r"\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
    r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Myanmar, Khmer
)
"""Letters of the scripts that do not separate words, as ranges of a regular expression."""

LETTER = rf"[^\W{UNSPACED}]"
"""A letter of any other script."""


def compile_names(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of `names` in a text as whole words, in any case. In scripts that do not separate words, wherever it is."""

    def bordered(name: str) -> str:
        first, last = (re.match(f"[{UNSPACED}]", name[i : i + 1]) for i in (0, len(name) - 1))
        return ("" if first else f"(?<!{LETTER})") + re.escape(name) + ("" if last else f"(?!{LETTER})")

    return re.compile("|".join(map(bordered, names)), re.IGNORECASE)


class NameSet:
    """Many names, found in a text in a time that does not grow with their number, where `compile_names` finds them.

    Choose it over `compile_names` where names are many and texts short: a pattern of a thousand names takes a second to compile, and every
    concept of a large group has its own.

    >>> NameSet(["Monet", "Van Gogh"]).search("a garden by van gogh"), NameSet(["ring"]).search("a spring")
    (True, False)
    """

    def __init__(self, names: Iterable[str]):
        self._names = {name.lower() for name in names}
        self._longest = max(map(len, self._names), default=0)

    def search(self, text: str) -> bool:
        """Whether the text contains one of the names."""
        low = text.lower()
        begins = [i for i in range(len(low)) if i == 0 or not _LETTER.match(low, i - 1) or _UNSPACED.match(low, i)]
        ends = [i for i in range(1, len(low) + 1) if i == len(low) or not _LETTER.match(low, i) or _UNSPACED.match(low, i - 1)]
        return any(low[i:j] in self._names for i in begins for j in ends if 0 < j - i <= self._longest)


_LETTER, _UNSPACED = re.compile(LETTER), re.compile(f"[{UNSPACED}]")
