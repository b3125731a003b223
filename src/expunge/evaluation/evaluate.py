"""Measures a run: renders both models from the same noise, has a judge label the images, and writes samples and rows."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.evaluation.judged import Judged, fresh_drawings, write_pairs
from expunge.evaluation.judges import Judge, judge_images, judges_for
from expunge.evaluation.metrics import METRICS, refuse_unknown
from expunge.evaluation.protocol import Protocol, Shot, plan
from expunge.evaluation.rendering import Pictures, kept_at, render
from expunge.evaluation.results import ROWS, SAMPLES, Row, Sample
from expunge.evaluation.rows import AFTER_STAGES, of_stages, rows_of
from expunge.evaluation.weights import weight_rows
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.loading import Model
from expunge.models.sampling import Sampler
from expunge.progress import Progress
from expunge.runs.run import Run, writes
from expunge.storage.cache import Store
from expunge.storage.files import write_json, write_lines
from expunge.storage.tensors import content
from expunge.training.session import Session


@writes("evaluation")
def evaluate(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    judge: str | None = None,
    protocol: Protocol = Protocol(),
    sampler: Sampler | None = None,
    metrics: Sequence[str] | None = None,
    device: str = "auto",
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: int | None = None,
) -> list[Row]:
    """Measures a run against its own base model and writes `evaluation/` into the run's folder.

    Several concepts are measured one by one, each with rows of its own; the others are not among what it should have left alone.
    After each stage, of a sequence or of several methods, UA is measured for every concept removed so far, so that a concept that
    comes back shows.

    Args:
        model: the base model; default the one that the run's card names.
        judge: "main" or "second" of the canvas (by default both there, the second as a check of the first), a transformers image
            classifier or CLIP. Without one, what needs no judge is measured and the images are written.
        sampler: default the model's own.
        device: of what is loaded; "auto" takes the fastest one there is. A pipeline in memory stays where it is.
        cache: images are kept there by content, so that an interrupted evaluation continues and the base model is sampled once;
            default `$EXPUNGE_CACHE`, else `~/.cache/expunge`.
        progress: shows how far the evaluation is on standard error; default `expunge.progress.Progress()`.
            `expunge.progress.Silent()` shows nothing.
        render_batch: images that are sampled at once; default 40. Larger is faster on an accelerator and needs more memory.

    Returns:
        Rows of the base model (run "base") and of the run, in long format; also in `evaluation/rows.jsonl`. Those of a stage
        have the stage's id for their run. A share of the run has its paired change from the base model. What every judge said of every
        image is in `evaluation/samples.jsonl`.

    Raises:
        ExpungeError: an unfinished run, another base model, an unknown metric or judge, or another process that measures the run.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    card, began = run.card, time.monotonic()
    refuse_unknown(metrics or ())
    session = Session.open(
        model or card["model"]["name"], device=device, dtype=card["dtype"], cache=cache, progress=progress, render_batch=render_batch
    )
    network = session.model
    delta, concept = run.delta(network.fingerprint), run.concept()
    judges = judges_for(judge, network, *concept.parts)
    settings = _Settings(session, judges, protocol, sampler or network.default_sampler, metrics)
    found = _Found(run.folder / "evaluation")
    for number, part in enumerate(concept.parts, 1):
        _measure(found, settings, card, delta, part, number if len(concept.parts) > 1 else None)
    found.rows.extend(weight_rows(network, delta, card, concept.target))
    for stage, removed in _removed_by(run):
        left = stage.delta(network.fingerprint)
        for part in removed:
            _measure_stage(found, settings, stage.card, left, part)
    _write(found, settings, time.monotonic() - began)
    return found.rows


@dataclass(frozen=True)
class _Settings:
    """How everything is measured."""

    session: Session
    judges: Sequence[Judge]
    protocol: Protocol
    sampler: Sampler
    metrics: Sequence[str] | None

    def render(self, delta: Mapping[str, Tensor], shots: Sequence[Shot], title: str) -> Pictures:
        """Images by the model with `delta` in it, kept under a name of its own."""
        model = self.session.model
        with swapped(model.network, delta):
            return render(self.session, shots, self.sampler, _named(model, delta), title)

    def chosen(self, *, first: bool) -> list[str]:
        """The metrics of a judge: distances are measured in the first one's features alone."""
        return [m for m in self.metrics or METRICS if first or "features" not in METRICS[m].about.needs]


@dataclass(frozen=True)
class _Found:
    """What has been measured so far."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    first: dict[str, Judged] = field(default_factory=dict)
    """By concept, what its first judge said; empty without a judge."""


def _measure(
    found: _Found, settings: _Settings, card: Mapping[str, Any], delta: Mapping[str, Tensor], concept: Concept, number: int | None
) -> None:
    """Measures one concept by every judge; `number` counts the concepts where there are several."""
    shots = plan(concept, settings.protocol)
    base = settings.render({}, shots, "images of the base model")
    after = settings.render(delta, shots, "images of the unlearned model")
    for who in settings.judges:
        judged = Judged(concept, shots, who, judge_images(who, after, concept), judge_images(who, base, concept))
        chosen = settings.chosen(first=concept.target not in found.first)
        found.first.setdefault(concept.target, judged)
        wants_drawings = settings.session.model.defaults.has_real_images and any("drawings" in METRICS[m].about.needs for m in chosen)
        evidence = judged.evidence(card["id"], fresh_drawings(who, concept, shots) if wants_drawings else None)
        found.samples.extend(evidence.samples)
        found.rows.extend(rows_of(evidence, card, chosen))
    within, of = ("", {}) if number is None else (f"{number:02d}/", {"concept": concept.target})
    pairs = write_pairs(found.folder, within, shots, (base, after), found.first.get(concept.target))
    found.pairs.extend(of | entry for entry in pairs)


def _measure_stage(found: _Found, settings: _Settings, card: Mapping[str, Any], delta: Mapping[str, Tensor], concept: Concept) -> None:
    """Measures by the first judge how gone a concept is after a stage, which removed it or came later."""
    whole = found.first.get(concept.target)
    if whole is None or not of_stages(settings.metrics):
        return
    places = [i for i, s in enumerate(whole.shots) if s.probe in AFTER_STAGES]
    shots = [whole.shots[i] for i in places]
    images = settings.render(delta, shots, f"images after {card['concept']['target']}")
    judged = Judged(concept, shots, whole.judge, judge_images(whole.judge, images, concept), whole.base.select(places))
    evidence = judged.evidence(card["id"])
    found.samples.extend(evidence.samples)
    found.rows.extend(rows_of(evidence, card, settings.metrics, is_stage=True))


def _write(found: _Found, settings: _Settings, seconds: float) -> None:
    judges = settings.judges
    write_json(found.folder / "pictures.json", found.pairs)
    about = {
        "judge": judges[0].name if judges else None,
        "sampler": asdict(settings.sampler) | {"scheduler": settings.session.model.scheduler_name},
        "protocol": asdict(settings.protocol),
        "seconds": round(seconds, 1),
        "notes": [] if judges else ["No judge labelled the images: give one with --judge; the rows that need none are there."],
    }
    write_json(found.folder / "evaluation.json", about, indent=2)
    write_lines(found.folder / SAMPLES, map(asdict, found.samples))
    write_lines(found.folder / ROWS, map(asdict, found.rows))


def _named(model: DiffusionModel, delta: Mapping[str, Tensor]) -> str:
    return f"{model.fingerprint}+{content(delta)}" if delta else model.fingerprint


def to_draw(run: Run, session: Session, protocol: Protocol, sampler: Sampler) -> tuple[int, int]:
    """How many images `evaluate` would render, and how many it would judge, with both models; after a sequence's stages too."""
    model, parts = session.model, run.concept().parts
    delta = run.delta(model.fingerprint)
    asked = [(weights, plan(part, protocol)) for part in parts for weights in ({}, delta)]
    for stage, removed in _removed_by(run):
        left = stage.delta(model.fingerprint)
        asked += [(left, [s for s in plan(p, protocol) if s.probe in AFTER_STAGES]) for p in removed]
    files = [f for weights, shots in asked for f in kept_at(session, shots, sampler, _named(model, weights))]
    return sum(not file.exists() for file in set(files)), len(set(files))


def _removed_by(run: Run) -> Iterator[tuple[Run, tuple[Concept, ...]]]:
    """Each stage, and the concepts that it or one before it was to remove."""
    parts, removed = {p.identity: p for p in run.concept().parts}, dict[tuple[str, str], Concept]()
    for stage in run.stages:
        removed |= {p.identity: parts[p.identity] for p in stage.concept().parts}
        yield stage, tuple(removed.values())
