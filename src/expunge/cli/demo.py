"""`expunge demo`: the whole road on the embedded model."""

import time
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import CANVAS, Device

PICTURES = {"seeds": 1, "target_seeds": 5}
"""How many of each prompt: as many as two cores draw in minutes."""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The run's folder, where the report lands too.")] = Path("runs/demo"),
    target: Annotated[str, typer.Option(metavar="WORDS", help="The concept to remove (see `expunge ls concepts`).")] = "neon style",
    method: Annotated[str, typer.Option(metavar="METHOD", help="How (see `expunge ls methods`).")] = "mim-mu",
    device: Device = "auto",
) -> None:
    """Erase a concept from the embedded model and show the result.

    Unlearns, measures and writes the report, in minutes on two cores. The concept's other names are erased with it. Needs no
    network, no GPU and no model of yours.
    """
    from expunge.cli.measured import measured
    from expunge.cli.screen import say
    from expunge.concepts.concept import Concept
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.config import build
    from expunge.evaluation.evaluate import evaluate
    from expunge.evaluation.protocol import Protocol
    from expunge.methods.config import find_method
    from expunge.progress import duration
    from expunge.reports.pages.run import write
    from expunge.runs.plan import make_plan
    from expunge.runs.unlearn import carry_out
    from expunge.training.session import Session

    how = build(find_method(method, allow_code=True), {}, method)
    main = Concept.find(target, Vocabulary.canvas())
    other_names = tuple(n for n in (main.member.name, *main.member.synonyms) if n != main.target)
    concept = Concept.find(main.target, main.vocabulary, other_names, kind=main.kind)

    session = Session.open(CANVAS, device=device)
    say(f"removing the {concept.kind} {' / '.join(concept.names)} from the embedded model with {method}")
    began = time.monotonic()
    plan = make_plan(session.model, concept, how)
    run = carry_out(plan, session, out)
    unlearnt = time.monotonic()
    measured(evaluate(run, session.model, protocol=Protocol(**PICTURES)))
    evaluated = time.monotonic()
    page = write([run.folder], run.folder / "report.html")
    parts = (("unlearning", unlearnt - began), ("measuring", evaluated - unlearnt), ("the report", time.monotonic() - evaluated))
    say("took    " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts), f"report  {page.resolve()}")
