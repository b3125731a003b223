"""What class-conditional models share: no text encoder, and a prompt that names a class by its name or number."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from expunge.concepts.labels import PREFIX, label_vocabulary
from expunge.diffusion.types import Cond
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.defaults import Defaults, defaults_of
from expunge.models.labels import labels_of
from expunge.names import suggest
from expunge.storage.hashing import digest


class ClassConditional(DiffusionModel):
    """A network that is given the number of a class, or the number after the last for no class.

    Prompts remain text: "label:3" and "label:tench" name classes, and "" names none. The states of a prompt are one row, which is 1 at the
    class's number and 0 elsewhere: with the table of class embeddings as a matrix, what a network reads of a prompt is their product, as
    with the tokens of a text.
    """

    text_encoder_parts = ()
    tokenizer_parts = ()
    reads_labels = True
    tables: ClassVar[str]
    """The tables of class embeddings, a row for each class, as a regular expression that is found in their full names."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.network.eval()  # in training mode some networks drop labels at random, and one prompt would have two predictions

    @abstractmethod
    def own_labels(self) -> tuple[str, ...]:
        """The names of the classes by the pipeline itself, one for each."""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        folder = self._known.folder or Path(self.name.partition("#")[0])
        return labels_of(folder) or self.own_labels()

    @property
    def _known(self) -> Defaults:
        return defaults_of(self.name)

    @property
    def defaults(self) -> Defaults:
        return replace(self._known, vocabulary=lambda: label_vocabulary(self.labels))

    @cached_property
    def _words(self) -> str:
        return digest("labels", self.labels)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        numbers = {str(number): number for number in range(len(self.labels))}
        return numbers | {name.casefold(): number for number, name in enumerate(self.labels)}

    def number_of(self, prompt: str) -> int:
        """The number of the class that a prompt names; the number after the last for the empty prompt.

        Raises:
            ExpungeError: the prompt names no class of the model.
        """
        text = " ".join(prompt.split()).casefold()
        if not text:
            return len(self.labels)
        number = self._numbers.get(text.removeprefix(PREFIX).strip()) if text.startswith(PREFIX) else None
        if number is None:
            raise ExpungeError(
                f"The prompt {prompt!r} names no class of {self.name}, which reads {PREFIX}NAME for {len(self.labels)} classes.",
                rule="unknown-label",
                value=prompt,
                hint=suggest(prompt, [PREFIX + name for name in self.labels]),
            )
        return number

    def check_words(self, *prompts: str) -> None:
        for prompt in prompts:
            self.number_of(prompt)

    def encode_rows(self, prompts: list[str]) -> Cond:
        numbers = torch.tensor([self.number_of(prompt) for prompt in prompts], device=self.device)
        one_hot = F.one_hot(numbers, len(self.labels) + 1).float()
        return Cond(one_hot[:, None], tuple(prompts), {"label": numbers})

    def fitting(self, caption: str) -> str:
        return caption

    def refuse_labels(self, rows: int, names: Sequence[str], remedy: str) -> None:
        """Refuses a network whose table has no row after those of its classes, for the prediction without a class.

        Raises:
            ExpungeError: it has another number of rows.
        """
        if rows != len(names) + 1 or not names:
            raise ExpungeError(
                f"The network of {self.name} has {rows} rows of class embeddings, and its configuration names {len(names)} classes. "
                "One more row than classes is needed, for the prediction without a class.",
                rule="no-null-class",
                value=rows,
                hint=f"Try {remedy}.",
            )
