"""Ends an evaluation when its intervals are narrow enough."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from expunge.errors import ExpungeError
from expunge.evaluation.metrics import describe
from expunge.evaluation.results import Row


@dataclass(frozen=True)
class Stopping:
    """When an evaluation of one concept ended, and what that means for its intervals."""

    until_width: float
    """The width that no interval may exceed."""
    looks: int
    """Rounds at the end of which it could have ended. More rounds make wider intervals."""
    rounds: int
    """Rounds that were made."""
    images: int
    """Images of each model."""
    width: float
    """The width of the widest interval."""

    @property
    def note(self) -> str:
        """One sentence for the page."""
        ended = "every interval was" if self.width <= self.until_width else "the budget was spent before every interval was"
        return (
            f"After round {self.rounds} of at most {self.looks}, with {self.images} images of each model, {ended} at most "
            f"{self.until_width:g} wide. All intervals hold at 95 % whatever the round in which the evaluation ended."
        )

    def as_table(self) -> dict[str, Any]:
        """For `evaluation.json`."""
        return {"until_width": self.until_width, "looks": self.looks, "rounds": self.rounds, "images": self.images, "width": self.width}


def refuse_width(width: float, *, has_judge: bool) -> None:
    """Refuses a width that no interval of a share can have, and any width where no share is measured.

    Raises:
        ExpungeError: rule "invalid-width" or "missing-judge".
    """
    if not 0 < width < 1:
        hint = "Try a number between 0 and 1, such as 0.1."
        raise ExpungeError(f"No interval of a share is {width:g} wide.", rule="invalid-width", value=width, hint=hint)
    if not has_judge:
        raise ExpungeError(
            "Without a judge no share is measured, so no interval becomes narrow.",
            rule="missing-judge",
            value=width,
            hint="Try --judge, or leave --until-width out.",
        )


def widest(rows: Iterable[Row]) -> float:
    """The width of the widest interval among the run's shares: of what should be gone that of the share, of what should remain that of
    the paired change, since these decide the verdict. 1 if no share was measured."""
    widths = []
    for row in rows:
        about = describe(row.metric)
        if row.run == "base" or not about.is_share:
            continue
        if about.aim == "retain" and row.paired:
            widths.append(row.paired.high - row.paired.low)
        else:
            widths.append(row.ci_high - row.ci_low)
    return max(widths, default=1.0)
