"""A finished run: a folder with its settings, its changed weights, its log and its card."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_from
from expunge.errors import ExpungeError
from expunge.models.delta import load_delta
from expunge.storage.files import inside

CARD = ("id", "method", "concept", "model", "seed", "dtype")
"""What a run's card holds at least."""


@dataclass(frozen=True)
class Run:
    """A finished run's folder: `config.toml`, `delta.safetensors`, `log.jsonl`, `card.json`."""

    folder: Path

    @cached_property
    def card(self) -> dict[str, Any]:
        """Settings, versions, costs and outcome.

        Raises:
            ExpungeError: the folder holds no finished run.
        """
        try:
            card = json.loads((self.folder / "card.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExpungeError(f"a run is a folder with a card.json: {self.folder}: {error}; make one with `expunge unlearn`") from error
        status = card.get("status") if isinstance(card, dict) else "no table"
        if status != "done":
            raise ExpungeError(f"a run is finished: {self.folder} is {status!r}; repeat its `expunge unlearn` to go on with it")
        if lacks := [key for key in CARD if key not in card]:
            raise ExpungeError(f"a run's card has {', '.join(CARD)}: that of {self.folder} lacks {lacks[0]!r}; make the run anew")
        return card

    @property
    def id(self) -> str:
        return self.card["id"]

    def delta(self, base: str | None = None) -> dict[str, Tensor]:
        """The changed tensors; with `base`, only for the model of that fingerprint."""
        return load_delta(self.folder / "delta.safetensors", base)

    def concept(self) -> Subject:
        """The concept, or several, as removed, with the vocabulary that it was removed under."""
        return concept_from(self.card["concept"])

    @property
    def stages(self) -> "tuple[Run, ...]":
        """The runs that it was made of in turn, one for each concept of a sequence and for each method; none of any other run.

        Raises:
            ExpungeError: the card names a folder outside the run's own.
        """
        return tuple(Run(inside(self.folder, stage["folder"])) for stage in self.card.get("stages", ()))
