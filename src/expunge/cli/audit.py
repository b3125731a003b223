"""`expunge audit RUN`: can it be brought back?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import AllowCode, BaseModel, Device, Judge, RunFolder, run_folder

FAILED = 1
"""The exit code where an attack could not be made."""

BUDGET = "Which attacks, with which settings, and how many pictures judge each reading."
CONTROL = "A run that never saw the concept, attacked as a second control.  [default: the canvas's own, where it has one]"
ATTACK = "Only this attack, by name or label. May repeat. One that the budget lacks is added.  [default: all]"
AUXILIARY = "Captioned pictures to relearn from, none of which names the concept: metadata.jsonl, or a .txt beside each."


def audit(
    run: RunFolder,
    budget: Annotated[str, typer.Option(metavar="quick|standard|full|FILE", help=BUDGET)] = "quick",
    control: Annotated[str | None, typer.Option(metavar="RUN|none", help=CONTROL)] = None,
    attack: Annotated[list[str] | None, typer.Option(metavar="NAME", help=ATTACK)] = None,
    auxiliary: Annotated[str | None, typer.Option(metavar="FOLDER|datasets:NAME", help=AUXILIARY)] = None,
    judge: Judge = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random in the attacks, and of the pictures' noise.")] = 0,
    model: BaseModel = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where it goes.  [default: RUN/audit, or beside it by budget, attacks and seed]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is to be done and what it costs. Writes nothing.")] = False,
    device: Device = "auto",
    allow_code: AllowCode = False,
) -> None:
    """Attack a run: can what was unlearned be brought back?

    Tries a battery of attacks on the run and, as controls, on the untouched model and on one that never saw the concept, where there
    is one, and writes one page for an auditor. What is done is kept: after an interruption the same command goes on. `docs/how-to/audit.md`
    says what each attack asks and how to read the verdicts.
    """
    from expunge.audits.setup import conclude, prepare
    from expunge.cli.progress import report_failures
    from expunge.cli.screen import say
    from expunge.names import NO_CONTROL
    from expunge.reports.pages.audit import write

    battery = prepare(
        run_folder(run),
        budget,
        model=model,
        control=control if control in (None, NO_CONTROL) else run_folder(Path(control)),
        attacks=attack or (),
        auxiliary=auxiliary,
        judge=judge,
        seed=seed,
        out=out,
        device=device,
        allow_code=allow_code,
    )
    missing = battery.missing()
    say(f"{battery.budget.name}: {len(battery.cells)} cells, {len(battery.cells) - len(missing)} done, {len(missing)} to do")
    if missing or dry_run:
        _price(battery, missing)
    if dry_run:
        return
    events = list(report_failures(battery.run())) if missing else []
    made = conclude(battery, events)
    _verdicts(made)
    say(f"rows    {made.folder / 'rows.jsonl'}", f"page    {write(made)}")
    if any(f.applicable for f in made.failures):
        raise typer.Exit(FAILED)


def _price(battery: Any, missing: Sequence[Any]) -> None:
    from expunge.cli.screen import table
    from expunge.progress import duration

    costs, several = battery.costs(missing), len(battery.concepts) > 1
    rows = []
    for cell in battery.cells:
        cost, about = costs.get(cell.id), (cell.entry.label, *([cell.concept.target] if several else []), cell.side.role)
        readings = str(len(cell.entry.attack.strengths))
        price = (f"{cost.forwards:,}", f"{cost.backwards:,}", duration(cost.seconds)) if cost else ("", "", "done")
        rows.append((*about, readings, *price))
    sums = [sum(getattr(c, name) for c in costs.values()) for name in ("forwards", "backwards", "seconds")]
    rows.append(("together", *([""] * (2 + several)), f"{sums[0]:,}", f"{sums[1]:,}", duration(sums[2])))
    columns = ("attack", *(["concept"] if several else []), "on", "readings", "forwards", "backwards", "about")
    title = f"cost of what is missing, in evaluations of the network for one sample; {battery.budget.pictures} pictures a reading"
    table(title, columns, rows, numbers=("readings", "forwards", "backwards", "about"))


def _verdicts(audit: Any) -> None:
    """Prints what became of each attack: shares in which the concept is seen, with 95 % intervals."""
    from expunge.audits.verdict import TITLES
    from expunge.cli.screen import say, table

    several = len(audit.chances) > 1
    rows = []
    for f in audit.findings:
        best, control = f.unlearned.best, f.control.highest_until(f.unlearned.best.strength) if f.control else None
        shares = [f.unlearned.before, f.rate, f.base.best.rate(f.base.judge), *([control] if audit.control else [])]
        name = (f.unlearned.label, *([f.concept] if several else []), TITLES[f.state])
        rows.append((*name, *map(_share, shares), f"{best.strength:g} {f.unlearned.result.unit}", str(best.n)))
    shown = ("before", "at its best", "untouched", *(["retrained"] if audit.control else []))
    columns = ("attack", *(["concept"] if several else []), "verdict", *shown, "best after", "n")
    table("share of pictures in which the concept is seen, with 95 % intervals", columns, rows, numbers=(*shown, "n"))
    for done in audit.done:
        if done.result.cut:
            ends = f"{done.result.readings[-1].strength:g} {done.result.unit}"
            say(f"{done.label} on {done.role}, {done.result.concept}: cut short after {ends}: {done.result.cut}")
    if any(f.control is None for f in audit.findings):
        say("no retrained control: an attack that teaches the concept anew cannot be told from one that brings it back (--control)")


def _share(rate: Any) -> str:
    return "" if rate is None else f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]"
