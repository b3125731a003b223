"""A run: a folder with its settings, its changed weights, its log and its card. Imports torch only to load the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from expunge.concepts.groups import Subject
from expunge.concepts.tables import concept_from
from expunge.errors import ExpungeError
from expunge.notebook import html_table
from expunge.progress import duration
from expunge.runs.folder import Card, read_card, read_config, read_steps
from expunge.storage.files import inside
from expunge.storage.lock import alone_in
from expunge.training.steps import Step

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

CARD = ("id", "method", "concept", "model", "seed", "dtype")
"""The keys that the card of every finished run has."""


@dataclass(frozen=True)
class Run:
    """The folder of a run: `config.toml`, `delta.safetensors`, `log.jsonl`, `card.json`."""

    folder: Path

    @cached_property
    def card(self) -> Card:
        """Settings, versions, costs and outcome of a finished run.

        Raises:
            ExpungeError: the folder holds no finished run.
        """
        card = self.unchecked_card
        if card.status != "done":
            raise ExpungeError(
                f"The run in {self.folder} is not finished: its status is {card.status!r}.",
                rule="unfinished-run",
                value=card.status,
                hint="Try the same `expunge unlearn` again: it continues the run.",
            )
        if lacks := [key for key in CARD if key not in card]:
            raise ExpungeError(
                f"The card of {self.folder} has no {lacks[0]!r}.",
                rule="incomplete-card",
                value=lacks[0],
                hint="Try to make the run again with `expunge unlearn`.",
            )
        return card

    @cached_property
    def unchecked_card(self) -> Card:
        """The card as it is: the run need not be finished, and keys may be missing.

        Raises:
            ExpungeError: the folder has no `card.json`, or the file is broken.
        """
        return read_card(self.folder)

    @property
    def id(self) -> str:
        return self.card["id"]

    @cached_property
    def config(self) -> str:
        """The text of `config.toml`; empty if there is none."""
        return read_config(self.folder)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The logged steps; empty for a method in closed form.

        Raises:
            ExpungeError: a line of the log is broken.
        """
        return read_steps(self.folder)

    def _repr_html_(self) -> str:
        card = self.unchecked_card
        trained = f"{len(self.steps)} steps, " if self.steps else ""
        facts = {
            "method": card.method,
            "base model": card.model,
            "status": card.status,
            "trained": f"{trained}{duration(card.seconds)}",
            "change of the weights": None if card.relative_change is None else f"{card.relative_change:.3%}",
            "seed": card.seed,
            "folder": self.folder,
        }
        lines = [(name, value) for name, value in facts.items() if value is not None]
        return html_table(f"Run {card.id}: {card.target or 'an unnamed concept'} removed", (), lines)

    def delta(self, base: str | None = None) -> "dict[str, Tensor]":
        """The changed tensors; with `base`, only for the model with that fingerprint.

        Raises:
            ExpungeError: the file is missing or broken, leads out of the folder, or belongs to another base model.
        """
        from expunge.models.delta import load_delta

        return load_delta(inside(self.folder, "delta.safetensors"), base)

    def concept(self) -> Subject:
        """The concept, or several, as removed, with the vocabulary that it was removed under."""
        return concept_from(self.card["concept"])

    @property
    def stages(self) -> "tuple[Run, ...]":
        """The runs of the stages, in order, of a run that was made in stages; empty for any other run.

        Raises:
            ExpungeError: the card names a folder that is not inside the run's folder.
        """
        return tuple(Run(inside(self.folder, stage["folder"])) for stage in self.card.get("stages", ()))


def writes(name: str) -> Callable[[Callable[Concatenate[Run | str | Path, P], T]], Callable[Concatenate[Run | str | Path, P], T]]:
    """Decorates a function that writes the folder `name` of a run, so that one process does so at a time.

    The function then also raises an ExpungeError where another process is writing that folder.
    """

    def decorated(function: Callable[Concatenate[Run | str | Path, P], T]) -> Callable[Concatenate[Run | str | Path, P], T]:
        @wraps(function)
        def alone(run: Run | str | Path, *given: P.args, **named: P.kwargs) -> T:
            made = run if isinstance(run, Run) else Run(Path(run))
            _ = made.card  # refuses what is no finished run, before anything is written
            with alone_in(made.folder / name):
                return function(made, *given, **named)

        return alone

    return decorated
