"""Finds a judge by its name, folder or hub id, and keeps it loaded."""

from functools import lru_cache
from pathlib import Path

import torch

from expunge.concepts.concept import Concept
from expunge.digits import DIGITS, WEIGHTS
from expunge.errors import ExpungeError
from expunge.evaluation.judge_settings import JUDGES, JudgeSettings, JudgeSpec, files_of, name_of, settings_of
from expunge.evaluation.judges.base import Judge
from expunge.evaluation.judges.canvas import CanvasJudge
from expunge.evaluation.judges.classifier import ClassifierJudge
from expunge.evaluation.judges.clip import CLIPJudge
from expunge.models.base import DiffusionModel

CANVAS_JUDGES = ("main", "second")
"""Of the embedded world; the first one's labels are the reported ones."""
EMBEDDED = (*CANVAS_JUDGES, DIGITS)
"""Judges that come with the package's models."""
BY_NAME = (*EMBEDDED, *JUDGES)
"""Judges with a name of their own; any other is a folder or a hub id."""


def load_judge(spec: JudgeSpec, device: str | torch.device = "cpu") -> Judge:
    """The judge that `spec` names (see `expunge.evaluation.judge_settings`): "main" or "second" of the canvas, "digits", a judge with
    settings, one of your own, or the folder or hub id of a classifier or CLIP.

    A process loads each judge once per device: concepts, stages, early stopping and audits share it. A folder whose files change
    is loaded again.

    Raises:
        ExpungeError: rule "unknown-judge", no such judge; "unreadable-judge", a folder or id that holds none; a setting is invalid.
    """
    name = name_of(spec)
    return _load(name, settings_of(spec), str(device), () if name in EMBEDDED else tuple(files_of(spec)))


@lru_cache(maxsize=4)
def _load(spec: str, settings: JudgeSettings | None, device: str, files: tuple[tuple[str, int, int], ...]) -> Judge:
    if settings is not None:
        return settings.load(device)
    if spec in CANVAS_JUDGES:
        return CanvasJudge(spec, device)
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


def judges_for(spec: JudgeSpec | None, model: DiffusionModel, *concepts: Concept) -> tuple[Judge, ...]:
    """The judges of a model's images: the one called `spec`; without it those that go with the model, if any.

    Raises:
        ExpungeError: as of `load_judge`; rule "judge-lacks-concept", a judge without a label for one of the concepts.
    """
    specs: tuple[JudgeSpec, ...] = (spec,) if spec else model.defaults.judges
    judges = tuple(load_judge(name, model.device) for name in specs)
    for judge in judges:
        for concept in concepts:
            judge.check(concept)
    return judges
