"""Refuses a new name that means several concepts, or that contains the name of a concept that the vocabulary lists.

Such a name would be removed as one concept, and the prompts of the concepts in it would be retained.
"""

import re
from collections.abc import Iterable

from expunge.errors import ExpungeError
from expunge.names import folded

SEPARATORS = re.compile("[,;\uff0c\uff1b\u3001]")
"""What separates the names of a list, in Latin and in East Asian punctuation."""


def refuse_list(text: str, what: str, remedy: str = "") -> None:
    """Refuses a text that is a list of names.

    Args:
        what: what the text is given as: "target", "synonym".
        remedy: how to give several; default each with its own option.

    Raises:
        ExpungeError: rule "list-as-name", the text contains a comma or a semicolon.
    """
    if not SEPARATORS.search(text):
        return
    option = "target" if what == "target" else "synonym"
    parts = [part.strip() for part in SEPARATORS.split(text) if part.strip()]
    each = " ".join(f"--{option} {part!r}" for part in parts) or f"a {what} without commas"
    raise ExpungeError(f"The {what} {text!r} is a list, not one name.", rule="list-as-name", value=text, hint=f"Try {remedy or each}.")


def refuse_member_in(name: str, names: Iterable[str]) -> None:
    """Refuses a new name that contains one of the vocabulary's `names` as whole words, in any case and with or without accents.

    Raises:
        ExpungeError: rule "member-in-name".
    """
    text = folded(name)
    found = {n: place.span() for n in names if (place := re.search(rf"(?<!\w){re.escape(folded(n))}(?!\w)", text))}
    # "Claude Monet" and not "Monet", which is a part of it.
    longest = [n for n, (first, last) in found.items() if not any(f <= first and last <= e for f, e in {*found.values()} - {found[n]})]
    if longest:
        each = " ".join(f"--target {n!r}" for n in sorted(longest, key=found.__getitem__))
        raise ExpungeError(
            f"{name!r} contains {longest[0]!r}, a concept of the vocabulary whose prompts would be retained.",
            rule="member-in-name",
            value=name,
            hint=f"Try {each}; to remove {name!r} as a concept of its own, list it in a --vocabulary.",
        )
