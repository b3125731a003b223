"""Many names, found in a text in a time that does not grow with their number."""

import re
from collections.abc import Iterable


class NameSet:
    """Names that `search` finds in a text as whole words, in any case.

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
        begins = [i for i in range(len(low)) if i == 0 or not _WORD.match(low, i - 1)]
        ends = [i for i in range(1, len(low) + 1) if i == len(low) or not _WORD.match(low, i)]
        return any(low[i:j] in self._names for i in begins for j in ends if 0 < j - i <= self._longest)


_WORD = re.compile(r"\w")
