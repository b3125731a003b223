"""Finds a judge by its name, folder or hub id, and keeps it loaded."""

from functools import lru_cache
from pathlib import Path

import torch

from expunge.concepts.concept import Concept
from expunge.digits import DIGITS, WEIGHTS
from expunge.errors import ExpungeError
from expunge.evaluation.judges.base import Judge
from expunge.evaluation.judges.canvas import CanvasJudge
from expunge.evaluation.judges.classifier import ClassifierJudge
from expunge.evaluation.judges.clip import CLIPJudge
from expunge.evaluation.judges.nudenet import NudeNetJudge
from expunge.models.base import DiffusionModel
from expunge.storage.files import lying_at

CANVAS_JUDGES = ("main", "second")
"""Of the embedded world; the first one's labels are the reported ones."""
NUDENET = NudeNetJudge.name
BY_NAME = (*CANVAS_JUDGES, DIGITS, NUDENET)
"""Judges with a name of their own; any other is a folder or a hub id."""


def load_judge(spec: str, device: str | torch.device = "cpu") -> Judge:
    """The judge called `spec`: "main" or "second" of the canvas, "digits", "nudenet", or the folder or hub id of a classifier or CLIP.

    A process loads each judge once per device: concepts, stages, early stopping and audits share it. A folder whose files change
    is loaded again.

    Raises:
        ExpungeError: rule "unknown-judge", no such judge; "unreadable-judge", a folder or id that holds none.
    """
    files = () if spec in BY_NAME else tuple(lying_at(spec))
    return _load(spec, str(device), files)


@lru_cache(maxsize=4)
def _load(spec: str, device: str, files: tuple[tuple[str, int, int], ...]) -> Judge:
    if spec in CANVAS_JUDGES:
        return CanvasJudge(spec, device)
    if spec == NUDENET:
        return NudeNetJudge()
    if spec == DIGITS:
        return ClassifierJudge(str(WEIGHTS / "judge"), device, name=DIGITS)
    from transformers import AutoConfig

    hint = f"Try one of {', '.join(BY_NAME)}, or the folder or hub id of a transformers image classifier or of CLIP."
    try:
        family = AutoConfig.from_pretrained(spec, trust_remote_code=False).model_type
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExpungeError(f"{spec!r} is not a judge: {reason}.", rule="unknown-judge", value=spec, hint=hint) from error
    if family != "clip" and not Path(spec).exists() and "/" not in spec:
        raise ExpungeError(f"{spec!r} is neither a folder nor a hub id.", rule="unknown-judge", value=spec, hint=hint)
    return CLIPJudge(spec, device) if family == "clip" else ClassifierJudge(spec, device)


def judges_for(spec: str | None, model: DiffusionModel, *concepts: Concept) -> tuple[Judge, ...]:
    """The judges of a model's images: the one called `spec`; without it those that go with the model, if any.

    Raises:
        ExpungeError: as of `load_judge`; rule "judge-lacks-concept", a judge without a label for one of the concepts.
    """
    specs = (spec,) if spec else model.defaults.judges
    judges = tuple(load_judge(name, model.device) for name in specs)
    for judge in judges:
        for concept in concepts:
            judge.check(concept)
    return judges
