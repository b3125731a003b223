"""How many images an evaluation samples."""

from collections.abc import Iterator

from expunge.concepts.concept import Concept
from expunge.evaluation.half_precision import compared_shots
from expunge.evaluation.judges.calibrated import calibration_shots
from expunge.evaluation.protocol import Protocol, plan
from expunge.evaluation.rendering import locate_images
from expunge.evaluation.rows import AFTER_STAGES
from expunge.evaluation.settings import identify
from expunge.models.half import rounded
from expunge.models.precision import DTYPES
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.training.session import Session


def count_images(
    run: Run, session: Session, protocol: Protocol, sampler: Sampler, half: str | None = None, calibrating: int = 0
) -> tuple[int, int]:
    """The number of images that `evaluate` would sample and the number of all of them, by both models and after all stages.

    Args:
        half: the precision in which images are sampled, where it is not the model's; then those that are compared count twice.
        calibrating: images with each concept, and as many without it, on which a judge's threshold is calibrated.
    """
    model, parts = session.model, run.concept().parts
    delta = run.delta(model.fingerprint)
    planned = [(weights, plan(part, protocol)) for part in parts for weights in ({}, delta)]
    planned += [({}, shots) for part in parts for shots in calibration_shots(part, calibrating)]
    for stage, removed in removed_by(run):
        left = stage.delta(model.fingerprint)
        planned += [(left, [s for s in plan(p, protocol) if s.probe in AFTER_STAGES]) for p in removed]
    compared = [(weights, compared_shots(part, protocol)) for part in parts for weights in ({}, delta)] if half else []
    files = {f for weights, shots in compared for f in locate_images(session, shots, sampler, identify(model, weights))}
    with rounded(model, DTYPES[half] if half else None):
        files |= {f for weights, shots in planned for f in locate_images(session, shots, sampler, identify(model, weights))}
    return sum(not file.exists() for file in files), len(files)


def removed_by(run: Run) -> Iterator[tuple[Run, tuple[Concept, ...]]]:
    """Each stage, with the concepts that it and the stages before it were to remove."""
    parts, removed = {p.identity: p for p in run.concept().parts}, dict[tuple[str, str], Concept]()
    for stage in run.stages:
        removed |= {p.identity: parts[p.identity] for p in stage.concept().parts}
        yield stage, tuple(removed.values())
