"""`expunge eval RUN`: a run's metrics, beside those of its base model."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import (
    Address,
    BaseModel,
    Device,
    Guidance,
    Judge,
    RenderBatch,
    RunFolder,
    SamplerSteps,
    build_sampler,
    find_run_folder,
)

PROMPTS = "Prompts of each prompt set at most, spread evenly over the set."
SEEDS = "Images of each retained prompt. More images narrow the intervals."
TARGET_SEEDS = "Images of each prompt of the concept and its synonyms, and of the empty prompt."
BUDGET = (
    "Images of each model: quick has 60, enough for a verdict with intervals about 10 points wide; standard has 300; full has as many as "
    "--prompts, --seeds and --target-seeds say.  [default: full]"
)
UNTIL_WIDTH = (
    "Make images in rounds and stop when no interval that decides the verdict is wider, for example 0.1 for 10 points. Intervals then "
    "allow for the number of rounds.  [default: make all images]"
)
WORKERS = "Processes that sample images, each with a model in memory; on several GPUs one for each."
COMPILE = "Compile the network for sampling (torch.compile): the first image waits for minutes, and others may be faster."
RENDER_DTYPE = (
    "Sample images with the network in half precision, if a judge labels at least 95 % of 24 images of each model and concept as in full "
    "precision.  [default: the run's precision]"
)
FEATURES = (
    "Network of a metric that papers print, by metric: FID, KID, CMMD, FDD, CLIP_score or LPIPS. A folder or id of a transformers vision "
    "model, or a file (see docs/how-to/judge.md). May be repeated."
)
REAL = "Folder of real images, from which FID, KID, CMMD and FDD are measured."
METRIC = "Metric to compute, by name or as package.module:Class. May be repeated.  [default: all]"
SEED = "Seed of the noise that images start from; both models get the same noise."


def evaluate(
    run: RunFolder,
    model: BaseModel = None,
    judge: Judge = None,
    prompts: Annotated[int, typer.Option(metavar="N", help=PROMPTS)] = 250,
    seeds: Annotated[int, typer.Option(metavar="N", help=SEEDS)] = 1,
    target_seeds: Annotated[int, typer.Option(metavar="N", help=TARGET_SEEDS)] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help=SEED)] = 0,
    steps: SamplerSteps = None,
    guidance: Guidance = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help=METRIC)] = None,
    features: Annotated[list[str] | None, typer.Option(metavar="METRIC=NETWORK", help=FEATURES)] = None,
    real: Annotated[Path | None, typer.Option(metavar="FOLDER", help=REAL)] = None,
    device: Device = "auto",
    render_batch: RenderBatch = None,
    budget: Annotated[str | None, typer.Option(metavar="quick|standard|full", help=BUDGET)] = None,
    until_width: Annotated[float | None, typer.Option(metavar="WIDTH", help=UNTIL_WIDTH)] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help=WORKERS)] = 1,
    address: Address = None,
    render_dtype: Annotated[str | None, typer.Option(metavar="bf16|fp16", help=RENDER_DTYPE)] = None,
    compiled: Annotated[bool, typer.Option("--compile", help=COMPILE)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the number of images and the estimated time, then exit.")] = False,
) -> None:
    """Measure whether the concept is gone and what else changed.

    Both models generate images of the same prompts from the same noise, and a judge labels them. Images are cached: the same command
    continues an interrupted evaluation, and all runs share the images of their base model.

    The rows replace those of an earlier evaluation of the run. To use a second judge, evaluate a copy of the run's folder.
    """
    from expunge.cli.evaluation_table import print_conclusion, print_evaluation
    from expunge.cli.output import print_lines
    from expunge.config import build
    from expunge.evaluation.counting import count_images
    from expunge.evaluation.evaluate import evaluate as evaluate_run
    from expunge.evaluation.half_precision import half_precision
    from expunge.evaluation.judge_settings import settings_of
    from expunge.evaluation.metrics import refuse_networks, resolve
    from expunge.evaluation.protocol import Protocol
    from expunge.models.outline import assume_fingerprint
    from expunge.models.scopes import SCOPES
    from expunge.progress import duration
    from expunge.runs.cost import pace
    from expunge.runs.run import Run
    from expunge.training.session import Session

    finished = Run(find_run_folder(run))
    protocol = build(
        Protocol, {"prompts": prompts, "seeds": seeds, "target_seeds": target_seeds, "seed": seed, "budget": budget or "full"}, "protocol"
    )
    networks = dict(pair.partition("=")[::2] for pair in features or ())
    refuse_networks(networks, str(real) if real else None, resolve(metric or (), allow_code=True))  # before a model is loaded
    calibrating = getattr(settings_of(judge), "calibration", 0) if judge else 0
    card = finished.card
    base = model or card["model"]["name"]
    session = Session.open(base, device=device, dtype=card["dtype"], render_batch=render_batch, weights=not dry_run)
    loaded = session.model
    sampler = build_sampler(loaded, steps, guidance)
    half = half_precision(render_dtype, loaded, has_judge=bool(judge or loaded.defaults.judges))
    if dry_run:
        assume_fingerprint(loaded, card["model"]["fingerprint"])
        missing, total = count_images(finished, replace(session, is_compiled=compiled), protocol, sampler, half, calibrating)
        forwards = missing * loaded.forwards_per_image(sampler)
        seconds = forwards * pace(loaded, SCOPES["xattn-kv"], 4).forward
        print_lines(f"images    {missing:,} to generate, {total - missing:,} of {total:,} cached")
        print_lines(f"forwards  {forwards:,}, about {duration(seconds)}")
        return
    if judge is None and not loaded.defaults.judges:
        print_lines("No judge: only metrics that need none are computed. Choose one of `expunge ls judges` with --judge.")
    rows = evaluate_run(
        finished,
        loaded,
        judge=judge,
        protocol=protocol,
        sampler=sampler,
        metrics=metric,
        features=networks,
        real=real,
        render_batch=render_batch,
        until_width=until_width,
        workers=workers,
        address=address,
        render_dtype=render_dtype,
        compile_network=compiled,
    )
    print_evaluation(rows, {s["id"]: s.get("of", s["target"]) for s in card.get("stages", ())})
    print_conclusion(finished.folder)
    print_lines(f"next: expunge report {finished.folder}")
