"""Measures a run: samples images of both models from the same noise, labels them by judges, and writes samples and rows."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.evaluation.counting import removed_by
from expunge.evaluation.error_rates import error_rates
from expunge.evaluation.half_precision import Agreement, compare, half_precision
from expunge.evaluation.judge_settings import JudgeSpec
from expunge.evaluation.judged import Judged, real_features, write_pairs
from expunge.evaluation.judges import ThresholdJudge, judges_for, on_base_model
from expunge.evaluation.metrics import METRICS, measurable, refuse_networks, resolve
from expunge.evaluation.networked import Networks
from expunge.evaluation.protocol import BudgetName, Protocol, plan, rounds
from expunge.evaluation.recognition import describe_unrecognised
from expunge.evaluation.results import ROWS, SAMPLES, Row, Sample
from expunge.evaluation.rows import AFTER_STAGES, notes_of_unknown, of_stages, rows_of
from expunge.evaluation.sequential import Stopping, refuse_width, widest
from expunge.evaluation.settings import Settings
from expunge.evaluation.shown import Rows
from expunge.evaluation.weights import weight_rows
from expunge.models.compiling import compiled
from expunge.models.loading import Model
from expunge.models.sampling import Sampler
from expunge.progress import Progress, Silent
from expunge.runs.run import Run
from expunge.storage.cache import Store
from expunge.storage.files import write_json, write_lines
from expunge.training.batch_size import RenderBatch
from expunge.training.distributed import Processes, state_of_its_own
from expunge.training.session import Session
from expunge.training.workers import refuse_workers, started

WORKER = "expunge.evaluation.worker"
NO_JUDGE = "No judge labelled the images, so metrics that need one are missing. Try --judge."


def evaluate(
    run: Run | str | Path,
    model: Model | None = None,
    *,
    judge: JudgeSpec | None = None,
    protocol: Protocol = Protocol(),
    sampler: Sampler | None = None,
    metrics: Sequence[str] | None = None,
    features: Mapping[str, str] | None = None,
    real: str | Path | None = None,
    device: str = "auto",
    cache: Store | str | Path | None = None,
    progress: Progress | None = None,
    render_batch: RenderBatch = None,
    budget: BudgetName | None = None,
    until_width: float | None = None,
    workers: int = 1,
    address: str | None = None,
    render_dtype: str | None = None,
    compile_network: bool = False,
) -> Rows:
    """Measure a run against its base model, and write `evaluation/` into the run's folder.

    Each of several concepts has its own rows, and the other removed concepts are not among those that should remain. If the run has stages,
    UA is also measured after each stage for every concept removed so far, which shows whether a concept comes back.

    Args:
        run: A finished run, or its folder.
        model: The base model; default the one that the run's card names.
        judge: "main" or "second" of the canvas (default there: both, the second as a check of the first), the folder or id of a
            transformers image classifier or of CLIP, or another of `expunge ls judges` with its settings: "nudenet,threshold=0.45", or
            {"name": "nudenet", "threshold": 0.45}. "package.module:Class" is one of your own. Without a judge, only metrics that need none
            are measured, and the images are written.
        protocol: The number of images.
        sampler: The sampler; default the model's own.
        metrics: Names of the metrics, or "package.module:Class" for one of your own; default all for which the budget has enough images.
        features: Networks of the metrics that papers print, by metric: FID, KID (default FID's), CMMD, FDD, CLIP_score, LPIPS. A network is
            the folder or id of a transformers vision model, or a file (see docs/how-to/judge.md). Without its network, a metric is not
            measured.
        real: A folder of real images, from which FID, KID, CMMD and FDD are measured.
        device: The device, if the model is loaded here; "auto" takes the fastest one. A pipeline in memory is not moved.
        cache: The folder in which images are cached by content, so that an interrupted evaluation continues and the base model is sampled
            once; default `$EXPUNGE_CACHE`, else `~/.cache/expunge`.
        progress: Shows progress on standard error; default `expunge.progress.Progress()`. `expunge.progress.Silent()` shows nothing.
        render_batch: Images that are sampled at once; default 40 on a CPU and for embedded models, else "auto": the number with
            which the device is fastest, measured once and kept in the cache. Larger needs more memory.
        budget: How many images of each model: "quick" (60 of each concept), "standard" (300), or "full", as many as `protocol` says.
            Default: the protocol's budget, which is full if it does not say otherwise.
        until_width: Stop as soon as no interval is wider, among the shares of what should be gone and the paired changes of what should
            remain: 0.1 is 10 points. Images are made in rounds, each with twice those of the one before, up to the budget. Intervals
            are wider than without, so that they hold at 95 % whatever the round in which it stops. Smaller takes more images, in
            proportion to 1 / width² if many images change.
        workers: Processes that sample images, this one included, each with a model of its own: more need as much more memory, and on CUDA
            take the next devices in turn. The results are those of one process. The model must be a folder, a hub id or "canvas".
        address: Of a Ray cluster ("auto", "ray://host:10001") that has the other workers, each with a GPU of its own on CUDA. All machines
            see the cache and the model at the same path. Default: this machine has them.
        render_dtype: "bf16" or "fp16" samples images with the network in half precision. Before, 24 images of each concept and of each of
            both models are sampled in both precisions, and the notes say how many of their labels agree. Faster where the device is
            faster in it; takes as much more memory as the network in half precision. Default: the precision of the run.
        compile_network: Sample with the network as `torch.compile` translates it. The first image waits for seconds to minutes, and the
            others may be faster. Images differ in their last digits, so the cache keeps them apart. Where the network cannot be compiled,
            a note says why.

    Returns:
        Rows of the base model (run "base") and of the run, in long format, as in `evaluation/rows.jsonl`. Rows of a stage have the stage's
        id as their run. A share of the run has its paired change from the base model. The labels of all images by all judges are in
        `evaluation/samples.jsonl`.

    Raises:
        ExpungeError: the run is not finished or has another base model; a metric, judge or budget is unknown; a network cannot be read, or
            a chosen metric has none; `until_width` without a judge; several workers for a pipeline in memory; another process measures the
            run; `render_dtype` without a judge, or fewer than 95 % of a judge's labels agree between the precisions.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    card, began = run.card, time.monotonic()
    features = features or {}
    names = resolve(metrics, allow_code=True) if metrics else None
    refuse_networks(features, None if real is None else str(real), names)
    protocol = replace(protocol, budget=budget) if budget else protocol
    if names is None and protocol.metrics:
        names = (*protocol.metrics, *(m for m in measurable(features, str(real or "")) if METRICS[m].about.network))
    session = Session.open(
        model or card["model"]["name"], device=device, dtype=card["dtype"], cache=cache, progress=progress, render_batch=render_batch
    )
    network = session.model
    refuse_workers(workers, network, address)
    delta, concept = run.delta(network.fingerprint), run.concept()
    judges = judges_for(judge, network, *concept.parts)
    if until_width is not None:
        refuse_width(until_width, has_judge=bool(judges))
    half = half_precision(render_dtype, network, has_judge=bool(judges))
    networks = Networks.open(features, real, names or tuple(METRICS), network.device)
    settings = Settings(session, judges, protocol, sampler or network.default_sampler, names, until_width, half, networks)
    folder = run.folder / "evaluation"
    with (
        state_of_its_own(),
        started(workers, network.device, WORKER, address) as others,
        compiled(network, compile_network) as uncompiled,
    ):
        processes = Processes.launched(network.device)
        shown = session.progress if processes.is_main else Silent()
        is_compiled = compile_network and uncompiled is None
        settings = replace(
            settings, session=replace(session, distributed=processes, progress=shown, workers=others, is_compiled=is_compiled)
        )
        settings = replace(settings, judges=on_base_model(judges, settings.base_images))
        with processes.alone_in(folder):
            results = _measure_run(run, settings, delta)
            results.notes.extend([uncompiled] if uncompiled else [])
            if processes.is_main:
                _write(results, settings, card["id"], time.monotonic() - began)
            processes.wait()
    return Rows(results.rows)


def _measure_run(run: Run, settings: Settings, delta: Mapping[str, Tensor]) -> "_Measurements":
    """All measurements of a run."""
    results, card, concept = _Measurements(run.folder / "evaluation"), run.card, run.concept()
    if settings.render_dtype is not None:
        results.agreements.extend(compare(settings, delta, concept.parts))
    for number, part in enumerate(concept.parts, 1):
        _measure(results, settings, card, delta, part, number if len(concept.parts) > 1 else None)
    weights = weight_rows(settings.session, delta, card, concept.target, settings.protocol.has_drift)
    results.rows.extend(replace(row, budget=settings.protocol.budget) for row in weights)
    for stage, removed in removed_by(run):
        left = stage.delta(settings.session.model.fingerprint)
        for part in removed:
            _measure_stage(results, settings, stage.card, left, part)
    return results


@dataclass(frozen=True)
class _Measurements:
    """The results so far."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    first: dict[str, Judged] = field(default_factory=dict)
    """By concept, the labels of its first judge; empty without a judge."""
    stopping: dict[str, Stopping] = field(default_factory=dict)
    """By concept, when its evaluation ended, if it may end early."""
    agreements: list[Agreement] = field(default_factory=list)
    """By judge, whether labels are those of full precision, if images are in half precision."""
    notes: list[str] = field(default_factory=list)


def _measure(
    results: _Measurements, settings: Settings, card: Mapping[str, Any], delta: Mapping[str, Tensor], concept: Concept, number: int | None
) -> None:
    """Measure one concept by every judge. `number` is the number of the concept, or None if there is only one."""
    every = plan(concept, settings.protocol)
    planned = [list(range(len(every)))] if settings.until_width is None else rounds(every)
    looks = len(planned)
    for number_of_round, places in enumerate(planned, 1):
        shots = [every[i] for i in places]
        base = settings.render({}, shots, "images of the base model")
        after = settings.render(delta, shots, "images of the unlearned model")
        measured = [
            _judge(
                settings,
                card,
                Judged(concept, shots, who, settings.labels(who, after, concept), settings.labels(who, base, concept)),
                looks,
                is_first=who is settings.judges[0],
            )
            for who in settings.judges
        ]
        if settings.until_width is not None:
            width = widest(measured[0].rows)
            results.stopping[concept.target] = Stopping(settings.until_width, looks, number_of_round, len(shots), width)
            if width <= settings.until_width:
                break
    for judged, samples, rows in measured:
        results.first.setdefault(concept.target, judged)
        results.samples.extend(samples)
        results.rows.extend(rows)
    if settings.networks.loaded:
        evidence = settings.networks.measure(settings.session, concept, shots, (base, after), card["id"], looks)
        results.rows.extend(rows_of(evidence, card, settings.metrics_of_networks, budget=settings.protocol.budget))
    within, of = ("", {}) if number is None else (f"{number:02d}/", {"concept": concept.target})
    if settings.session.distributed.is_main:
        pairs = write_pairs(results.folder, within, shots, (base, after), results.first.get(concept.target))
        results.pairs.extend(of | entry for entry in pairs)


class _JudgedRows(NamedTuple):
    """What one judge says of one concept."""

    judged: Judged
    samples: tuple[Sample, ...]
    rows: list[Row]


def _judge(settings: Settings, card: Mapping[str, Any], judged: Judged, looks: int, *, is_first: bool) -> _JudgedRows:
    """Samples and rows from the labels of a judge."""
    chosen = settings.metrics_of(first=is_first)
    real = settings.session.model.defaults.real_images if any("drawings" in METRICS[m].about.needs for m in chosen) else None
    drawings = real_features(judged.judge, judged.concept, judged.shots, real) if real else None
    evidence = judged.evidence(card["id"], drawings, looks)
    return _JudgedRows(judged, evidence.samples, rows_of(evidence, card, chosen, budget=settings.protocol.budget))


def _measure_stage(
    results: _Measurements, settings: Settings, card: Mapping[str, Any], delta: Mapping[str, Tensor], concept: Concept
) -> None:
    """Measure a concept by the first judge after a stage that removed it, or a later one."""
    final = results.first.get(concept.target)
    if final is None or not of_stages(settings.metrics):
        return
    places = [i for i, s in enumerate(final.shots) if s.probe in AFTER_STAGES]
    shots = [final.shots[i] for i in places]
    images = settings.render(delta, shots, f"images after {card['concept']['target']}")
    judged = Judged(concept, shots, final.judge, settings.labels(final.judge, images, concept), final.base.select(places))
    looks = results.stopping[concept.target].looks if concept.target in results.stopping else 1
    evidence = judged.evidence(card["id"], looks=looks)
    results.samples.extend(evidence.samples)
    results.rows.extend(rows_of(evidence, card, settings.metrics, is_stage=True, budget=settings.protocol.budget))


def _write(results: _Measurements, settings: Settings, run: str, seconds: float) -> None:
    """Write all files but the images of pairs."""
    rates = error_rates(s for s in results.samples if s.run == run)
    judges, full = settings.judges, settings.session.model.precision
    sampled_in = settings.render_dtype or full
    write_json(results.folder / "pictures.json", results.pairs)
    about = {
        "judge": judges[0].name if judges else None,
        "judges": [
            {"name": j.name, "weights": j.weights, "error_rates": [r.as_table() for r in rates if r.judge == j.name]}
            | ({"calibration": j.calibrations} if isinstance(j, ThresholdJudge) else {})
            for j in judges
        ],
        "networks": settings.networks.table,
        "real": str(settings.networks.real) if settings.networks.real else None,
        "sampler": asdict(settings.sampler) | {"scheduler": settings.session.model.scheduler_name},
        "protocol": settings.protocol.table,
        "render_dtype": sampled_in,
        "seconds": round(seconds, 1),
        "notes": [
            *([*notes_of_unknown(results.rows), *describe_unrecognised(results.rows)] if judges else [NO_JUDGE]),
            *(agreement.note(sampled_in, full) for agreement in results.agreements),
            *results.notes,
            *(_named(c, s.note, results) for c, s in results.stopping.items()),
        ],
    }
    if results.stopping:
        about["stopping"] = {concept: stopping.as_table() for concept, stopping in results.stopping.items()}
    write_json(results.folder / "evaluation.json", about, indent=2)
    write_lines(results.folder / SAMPLES, map(asdict, results.samples))
    write_lines(results.folder / ROWS, map(asdict, results.rows))


def _named(concept: str, note: str, results: _Measurements) -> str:
    """A note with its concept, where there are several."""
    return f"{concept}: {note}" if len(results.stopping) > 1 else note
