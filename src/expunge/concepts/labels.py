"""Classes as concepts: the words of a class-conditional model are the names of its classes, and "label:NAME" is its prompt.

A class is named by its name or by its number, from 0: "label:golden retriever" and "label:207" are one prompt.
"""

from collections.abc import Iterable, Mapping, Sequence

from expunge.concepts.vocabulary import Kind, Member, Vocabulary

LABEL = "label"
"""The kind of concept that a class is."""
PREFIX = f"{LABEL}:"
"""What a prompt begins with that names a class."""


def names_of(id2label: Mapping[int, Iterable[str]], count: int) -> tuple[str, ...]:
    """One name for each class, its number where it has none of its own.

    Args:
        id2label: the names of each class, the preferred one first.
        count: how many classes there are.
    """
    names: list[str] = []
    for number in range(count):
        taken = {name.casefold() for name in names}
        free = (" ".join(name.split()) for name in id2label.get(number, ()))
        names.append(next((name for name in free if name and name.casefold() not in taken), str(number)))
    return tuple(names)


def label_vocabulary(names: Sequence[str]) -> Vocabulary:
    """The vocabulary of a model with these classes. It is closed, has no partners, and each class is retained for the others."""
    members = tuple(Member(name) for name in names)
    return Vocabulary({LABEL: Kind(LABEL, PREFIX + "{target}", members=members, numbered=True)}, closed=True)
