"""`expunge eval RUN`: measure a run against its own untouched model."""

from typing import Annotated

import typer

from expunge.cli.options import BaseModel, Device, Guidance, Judge, RunFolder, SamplerSteps, run_folder, sampler


def evaluate(
    run: RunFolder,
    model: BaseModel = None,
    judge: Judge = None,
    prompts: Annotated[int, typer.Option(metavar="N", help="At most so many prompts of each probe, spread evenly over them.")] = 250,
    seeds: Annotated[int, typer.Option(metavar="N", help="Pictures of each retained prompt. More narrow the intervals.")] = 1,
    target_seeds: Annotated[int, typer.Option(metavar="N", help="Pictures of each prompt of the concept and its synonyms.")] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the noise that pictures start from, in both models.")] = 0,
    steps: SamplerSteps = None,
    guidance: Guidance = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this metric. May repeat.  [default: all]")] = None,
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many pictures that takes, and how long.")] = False,
) -> None:
    """Measure a run: is the concept gone, and what else was hurt?

    Draws the same prompts from the same noise with both models and lets a judge look. Pictures are kept: an interrupted
    evaluation goes on where it stopped, and the untouched model is drawn once for all its runs. Another evaluation
    of the run replaces its rows: for a second judge, evaluate a copy of the run's folder.
    """
    from expunge.cli.measured import measured
    from expunge.cli.screen import say
    from expunge.config import build
    from expunge.evaluation.evaluate import evaluate as measured_rows
    from expunge.evaluation.evaluate import to_draw
    from expunge.evaluation.metrics import METRICS, measure
    from expunge.evaluation.metrics.base import Evidence
    from expunge.evaluation.protocol import Protocol
    from expunge.models.scopes import SCOPES
    from expunge.progress import duration
    from expunge.runs.cost import pace
    from expunge.runs.run import Run
    from expunge.training.session import Session

    made = Run(run_folder(run))
    protocol = build(Protocol, {"prompts": prompts, "seeds": seeds, "target_seeds": target_seeds, "seed": seed}, "protocol")
    measure(Evidence("", "", {}, {}), [name for name in metric or () if name not in METRICS])  # refuses, before a model is loaded
    session = Session.open(model or made.card["model"]["name"], device=device, dtype=made.card["dtype"])
    loaded = session.model
    drawn_with = sampler(loaded, steps, guidance) or loaded.default_sampler
    if dry_run:
        missing, every = to_draw(made, session, protocol, drawn_with)
        forwards = missing * drawn_with.steps * (2 if drawn_with.guidance_scale > 1 else 1)
        took = forwards * pace(loaded, SCOPES["xattn-kv"], 4).forward
        say(f"pictures  {missing:,} to draw, {every - missing:,} of {every:,} are there", f"forwards  {forwards:,}, about {duration(took)}")
        return
    if judge is None and not loaded.defaults.judges:
        say("no judge: UA and the other shares are not measured, only what needs none; --judge takes one of `expunge ls judges`")
    rows = measured_rows(made, loaded, judge=judge, protocol=protocol, sampler=drawn_with, metrics=metric)
    measured(rows, {s["id"]: s.get("of", s["target"]) for s in made.card.get("stages", ())})
    say(f"next: expunge report {made.folder}")
