"""The results of an evaluation: rows, one for each number, and samples, one for each judged image. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from expunge.errors import ExpungeError
from expunge.evaluation.statistics import PairedChange

ROWS, SAMPLES = "rows.jsonl", "samples.jsonl"
"""Files of the folder `evaluation`."""

NOTHING = "none of them"
"""The label of an image in which a judge sees no member of the vocabulary."""

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One measured number, with everything by which rows are grouped."""

    run: str
    """Run id; "base" for the base model."""
    method: str
    """The registered name of the method; "none" for the base model."""
    concept: str
    seed: int
    """The seed of the run's training."""
    probe: str
    """The set of prompts on which it was measured."""
    metric: str
    value: float
    """The value. It and its interval are not-a-number if a file has none."""
    ci_low: float
    ci_high: float
    n: int
    """The number of images (or other independent units) that were measured; 0 if a file does not have it."""
    attack: str = "none"
    """The label of the attack on the model before the measurement."""
    strength: float = 0.0
    """The strength of the attack, in its unit."""
    judge: str = "main"
    change: float | None = None
    """The value minus the base model's value on the same images. It and the fields below are None for the base model, and for metrics that
    are no share."""
    change_low: float | None = None
    change_high: float | None = None
    losses: int | None = None
    """Images that count as right with the base model and as wrong with the run."""
    gains: int | None = None
    """Images that count as wrong with the base model and as right with the run."""
    p: float | None = None
    """Probability of a change at least this large if the run changed nothing; below 0.05 the change is significant."""
    known: int | None = None
    """Members of the concept's kind that the judge has a label for. Images of the others are not counted. None if it knows all."""
    members: int | None = None
    """Members of the concept's kind that the prompts name; None if the judge knows all."""
    budget: str = "full"
    """The budget that said how many images there are."""
    looks: int = 1
    """How often the evaluation could have ended because its intervals were narrow enough. Intervals and `p` allow for it."""

    def __post_init__(self) -> None:
        if self.ci_low > self.value or self.value > self.ci_high:
            raise ValueError(f"{self.metric} is {self.value}, which is outside its interval [{self.ci_low}, {self.ci_high}]")

    @property
    def paired(self) -> PairedChange | None:
        """The paired change from the base model; None if it is not known."""
        parts = self.change, self.change_low, self.change_high, self.losses, self.gains, self.p
        return None if None in parts else PairedChange(*parts)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Sample:
    """One image of a run as one judge labelled it, beside the base model's image of the same prompt and noise."""

    run: str
    """Id of the run, or of a stage of it."""
    concept: str
    """The removed concept whose prompts these are."""
    kind: str
    """The concept's kind, for example "style"."""
    partner: str
    """The kind of its partners in the prompts, for example "object"."""
    probe: str
    prompt: str
    seed: int
    """The index among the prompt's images. Images of equal prompts and seeds start from equal noise."""
    judge: str
    wanted: Mapping[str, str]
    """By kind, what the prompt asks for; a kind that it does not mention is missing."""
    seen: Mapping[str, str]
    """By kind, the judge's label of the run's image; a kind that it cannot label is missing."""
    base: Mapping[str, str] = field(default_factory=dict)
    """Its label of the base model's image."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """The judge's confidence in `seen`, from 0 to 1, where it has one."""
    base_confidence: Mapping[str, float] = field(default_factory=dict)
    unjudged: Sequence[str] = ()
    """The kinds of `wanted` whose member the judge has no label for. No metric counts them as right or wrong."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What the judge measured of the run's image, by name: of NudeNet the score of each part found, also of parts that do not count."""
    base_scores: Mapping[str, float] = field(default_factory=dict)
    rejected: bool | None = None
    """Whether the judge recognises no member of any kind in the run's image; None if it has no confidence, or too few images show how sure
    it is of members (see `rejection`)."""
    base_rejected: bool | None = None


def read_rows(folder: str | Path) -> list[Row]:
    """The rows of an evaluated run, given its folder.

    Raises:
        ExpungeError: rule "not-evaluated", no rows, or damaged ones.
    """
    return _read(Path(folder) / "evaluation" / ROWS, Row)


def read_samples(folder: str | Path) -> list[Sample]:
    """The samples of an evaluated run, given its folder.

    Raises:
        ExpungeError: rule "not-evaluated", no samples, as of runs that were evaluated before samples were kept, or damaged ones.
    """
    return _read(Path(folder) / "evaluation" / SAMPLES, Sample)


def _read(file: Path, cls: type[T]) -> list[T]:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [cls(**{k: v for k, v in line.items() if k in known}) for line in lines]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ExpungeError(
            f"{file} cannot be read: {' '.join(str(error).split())}.",
            rule="not-evaluated",
            value=str(file),
            hint=f"Try `expunge eval {file.parent.parent}`.",
        ) from error
