"""The `expunge unlearn` command that the studio's form prepares. It is text: nothing here runs it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.concepts.concept import Concept
from expunge.evaluation.criterion import parse_criterion
from expunge.methods.base import Objective
from expunge.methods.config import find_method
from expunge.models.defaults import defaults_of


@dataclass(frozen=True)
class Request:
    """What the form asks for. Empty and None leave the command's default."""

    method: str
    target: str
    model: str
    synonyms: Sequence[str] = ()
    kind: str | None = None
    """Of a concept that the model's vocabulary lacks."""
    steps: int | None = None
    """Training steps; without effect on a method in closed form."""
    seed: int = 0
    accept: str = ""
    """The acceptance criterion."""

    @property
    def is_trained(self) -> bool:
        """Whether the method trains, and so has a number of steps."""
        return issubclass(find_method(self.method), Objective)


def command_for(request: Request, attacks: Sequence[str]) -> str:
    """The command line, ready to copy into a shell.

    Args:
        request: What it should do.
        attacks: names of attacks that the criterion may use.

    Raises:
        ExpungeError: an unknown method, a concept or synonym that cannot be removed, or a criterion that cannot be read.
    """
    is_trained = request.is_trained
    Concept.find(request.target, defaults_of(request.model).vocabulary(), tuple(request.synonyms), kind=request.kind)
    if request.accept:
        parse_criterion(request.accept, attacks)
    options = [("--model", request.model), ("--target", request.target), *(("--synonym", name) for name in request.synonyms)]
    options += [("--kind", request.kind)] if request.kind else []
    options += [("--steps", str(request.steps))] if request.steps is not None and is_trained else []
    options += [("--seed", str(request.seed))] if request.seed else []
    options += [("--accept", request.accept)] if request.accept else []
    return shlex.join(["expunge", "unlearn", request.method, *(word for option in options for word in option)])
