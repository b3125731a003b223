"""Rules that end a run before its last step."""

import dataclasses
from collections.abc import Callable
from typing import Any

from expunge import config
from expunge.concepts.groups import Subject
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel

Stop = Callable[[DiffusionModel, Subject], Callable[[int], bool]]
"""A rule is given the model and the concept (or several) before the first step, and gives what is asked after each step but the
last: whether to end there, by the number of steps done. When it is asked, the model has the weights that the run would end with.
Its answer must be a function of these alone: a run that goes on from a checkpoint asks again."""


def stop_table(stop: Stop) -> dict[str, Any]:
    """A rule as TOML: a part of the run's identity.

    Raises:
        ExpungeError: a rule without a name that tells it from others.
    """
    kind = stop if hasattr(stop, "__qualname__") else type(stop)
    name = getattr(kind, "rule", None) or f"{kind.__module__}:{kind.__qualname__}"  # type: ignore[attr-defined]
    if "<" in name:
        raise ExpungeError(f"a rule to stop by has a name, which names the run too: {name!r} is none; define it at the top of a module")
    return {"rule": name, **(config.settings(stop) if dataclasses.is_dataclass(stop) else {})}
