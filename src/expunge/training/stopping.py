"""The protocol of rules that end a run before its last step."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from expunge import config
from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel


class Check(Protocol):
    """A stopping rule at work on one run."""

    def is_done(self, steps_done: int) -> bool:
        """Whether to end the run after this many steps.

        The run asks after each step but its last. The model then has the weights that the run would end with: the EMA where one is kept.
        The answer must be a function of the weights and of `steps_done`, since a run that continues from a checkpoint asks again.
        """
        ...


class StoppingRule(ABC):
    """Ends a run before its last step.

    Derive a frozen dataclass; its fields are the rule's settings. They are a part of the run's id.
    """

    rule: ClassVar[str] = ""
    """The name in a configuration; empty for "package.module:Class"."""

    @abstractmethod
    def start(self, model: DiffusionModel, concept: Subject) -> Check:
        """Prepares the check of one run, before anything of it is written.

        Args:
            model: the model that is trained.
            concept: the concept, or several, that the run removes.
        """

    def table(self) -> dict[str, Any]:
        """The rule and its settings as TOML.

        Raises:
            ExpungeError: the class is not a dataclass, or is defined in a function, so that its name does not identify it.
        """
        kind = type(self)
        name = self.rule or f"{kind.__module__}:{kind.__qualname__}"
        if "<" in name or not dataclasses.is_dataclass(self):
            raise ExpungeError(
                f"{name!r} does not identify a stopping rule: it is not a dataclass at the top of a module.",
                rule="unnamed-stopping-rule",
                value=name,
                hint="Try @dataclass(frozen=True) on a class outside of functions.",
            )
        return {"rule": name, **config.settings(self)}


def refuse_other_rules(stop: object) -> None:
    """Refuses what is not a stopping rule.

    Raises:
        ExpungeError: `stop` is neither None nor a `StoppingRule` that its table identifies.
    """
    if isinstance(stop, StoppingRule):
        stop.table()
    elif stop is not None:
        raise ExpungeError(
            f"{stop!r} is not a stopping rule.",
            rule="stopping-rule",
            value=stop,
            hint="Try expunge.Gone(every=20), or a class derived from expunge.StoppingRule.",
        )
