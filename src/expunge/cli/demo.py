"""`expunge demo`: unlearn, evaluate and report on the embedded model."""

import time
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import CANVAS, Device, RenderBatch

SEEDS, TARGET_SEEDS = 1, 5
"""Images of each prompt: as many as two cores generate in minutes."""

OUT = "Folder of the run; the report is written there too."


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help=OUT)] = Path("runs/demo"),
    target: Annotated[str, typer.Option(metavar="WORDS", help="Concept to remove (see `expunge ls concepts`).")] = "neon style",
    method: Annotated[str, typer.Option(metavar="METHOD", help="Method (see `expunge ls methods`).")] = "mim-mu",
    device: Device = "auto",
    render_batch: RenderBatch = None,
) -> None:
    """Remove a concept from the embedded model and report the result.

    Unlearns, evaluates and writes a report in minutes on two cores. Removes the concept under all its names. Needs no network, no GPU and
    no model of your own.
    """
    from expunge.cli.evaluation_table import print_conclusion, print_evaluation
    from expunge.cli.output import print_lines
    from expunge.concepts.concept import Concept
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.config import build
    from expunge.evaluation.evaluate import evaluate
    from expunge.evaluation.protocol import Protocol
    from expunge.methods.config import find_method
    from expunge.progress import duration
    from expunge.reports.pages.run import write_report
    from expunge.runs.plan import make_plan
    from expunge.runs.unlearn import carry_out
    from expunge.training.session import Session

    configured = build(find_method(method, allow_code=True), {}, method)
    found = Concept.find(target, Vocabulary.canvas())
    other_names = tuple(n for n in (found.member.name, *found.member.synonyms) if n != found.target)
    concept = Concept.find(found.target, found.vocabulary, other_names, kind=found.kind)

    session = Session.open(CANVAS, device=device, render_batch=render_batch)
    print_lines(f"removing the {concept.kind} {' / '.join(concept.names)} from the embedded model with {method}")
    began = time.monotonic()
    plan = make_plan(session.model, concept, configured)
    run = carry_out(plan, session, out)
    unlearned = time.monotonic()
    print_evaluation(evaluate(run, session.model, protocol=Protocol(seeds=SEEDS, target_seeds=TARGET_SEEDS), render_batch=render_batch))
    evaluated = time.monotonic()
    page = write_report([run.folder], run.folder / "report.html")
    parts = (("unlearning", unlearned - began), ("evaluation", evaluated - unlearned), ("report", time.monotonic() - evaluated))
    print_lines("took    " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts), f"report  {page.resolve()}")
    print_conclusion(run.folder)
