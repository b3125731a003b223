"""Acceptance criteria: what a run's numbers must reach, in one line such as "UA>=0.98, NRA>=-0.02, relearn<=control+0.05". No torch."""

from collections.abc import Collection
from dataclasses import dataclass

from expunge.errors import ExpungeError
from expunge.evaluation.metrics import describe, described
from expunge.names import suggest
from expunge.runs.acceptance import Clause, split_criterion


@dataclass(frozen=True)
class Condition:
    """One condition of a criterion."""

    text: str
    what: str
    """A metric, or an attack, which stands for its attack success rate at the attacker's best."""
    sign: str
    """">=" or "<="."""
    reference: str
    """What `number` is added to: nothing, the base model's value, or the retrained control's value under the same attack."""
    number: float

    @property
    def is_attack(self) -> bool:
        return self.what not in described()

    def holds(self, value: float, reference: float) -> bool:
        """Whether a value meets it, given the value of the reference, 0 if it has none."""
        limit = reference + self.number
        return value >= limit - 1e-12 if self.sign == ">=" else value <= limit + 1e-12


def parse_criterion(text: str, attacks: Collection[str]) -> tuple[Condition, ...]:
    """The conditions of a criterion. A share cannot be negative, so a negative number for a share is a change from the base model.

    Args:
        attacks: names of attacks that may stand on the left.

    Raises:
        ExpungeError: a condition of another form; a name that is neither a metric nor an attack; a control of a metric.
    """
    return tuple(_condition(clause, attacks) for clause in split_criterion(text))


def _condition(clause: Clause, attacks: Collection[str]) -> Condition:
    names = [name for name in described() if name != "ASR"]
    if clause.what not in names and clause.what not in attacks:
        hint = suggest(clause.what, [*names, *attacks], "`expunge ls metrics` and `expunge ls attacks`")
        raise ExpungeError(f"{clause.what!r} is neither a metric nor an attack.", rule="broken-criterion", value=clause.what, hint=hint)
    if clause.what in names and clause.reference == "control":
        raise ExpungeError(
            f"{clause.text!r} compares a metric with the control, which is only attacked.",
            rule="broken-criterion",
            value=clause.text,
            hint="Try `base` instead of `control`, or the name of an attack.",
        )
    is_change = clause.what in names and not clause.reference and clause.number < 0 and describe(clause.what).is_share
    return Condition(clause.text, clause.what, clause.sign, "base" if is_change else clause.reference, clause.number)
