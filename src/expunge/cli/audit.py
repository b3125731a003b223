"""`expunge audit RUN`: attacks on a run and its controls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import (
    Address,
    AllowCode,
    BaseModel,
    Blur,
    Device,
    Judge,
    NoPictures,
    RenderBatch,
    RunFolder,
    find_run_folder,
)

FAILED = 1
"""The exit code if an attack failed."""

BUDGET = "Attacks with their settings, and images for each reading: quick, standard, full, or a TOML file of your own."
CONTROL = "Second control: a run that was trained without the concept, or none.  [default: the canvas's own control, if it has one]"
ATTACK = "Attack to run, by name or label. May be repeated. An attack that the budget lacks gets its default settings.  [default: all]"
AUXILIARY = (
    "Images with captions to relearn from; no caption may name the concept. A folder holds metadata.jsonl, or a .txt for each image."
)
SEED = "Seed of the attacks and of the noise that images start from."
WORKERS = "Processes that share the attacks, each with a model in memory; on several GPUs one for each."
OUT = "Folder of the audit.  [default: RUN/audit, followed by the budget, the attacks and the seed if they are not the defaults]"


def audit(
    run: RunFolder,
    budget: Annotated[str, typer.Option(metavar="quick|standard|full|FILE", help=BUDGET)] = "quick",
    control: Annotated[str | None, typer.Option(metavar="RUN|none", help=CONTROL)] = None,
    attack: Annotated[list[str] | None, typer.Option(metavar="NAME", help=ATTACK)] = None,
    auxiliary: Annotated[str | None, typer.Option(metavar="FOLDER|datasets:NAME", help=AUXILIARY)] = None,
    judge: Judge = None,
    seed: Annotated[int, typer.Option(metavar="N", help=SEED)] = 0,
    model: BaseModel = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help=OUT)] = None,
    no_pictures: NoPictures = False,
    blur: Blur = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the attacks and their estimated cost, then exit.")] = False,
    device: Device = "auto",
    render_batch: RenderBatch = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help=WORKERS)] = 1,
    address: Address = None,
    allow_code: AllowCode = False,
) -> None:
    """Attack a run to test whether the concept can be brought back.

    Each attack is made on the run and, as controls, on the base model and on a model that was trained without the concept, if there is
    one. The result is the run's page for a reviewer, with its evaluation and this audit. Finished attacks are kept: the same command
    continues after an interruption.
    `docs/how-to/audit.md` explains the attacks and the verdicts.
    """
    from expunge.audits.setup import conclude, prepare
    from expunge.cli.output import print_lines
    from expunge.models.outline import assume_fingerprint, outline
    from expunge.names import NO_CONTROL
    from expunge.runs.run import Run

    folder, base = find_run_folder(run), None
    if dry_run and (model or Run(folder).card["model"]["name"] != "in memory"):  # without weights
        card = Run(folder).card
        base = outline(model or card["model"]["name"], device, card["dtype"])
        assume_fingerprint(base, card["model"]["fingerprint"])
    battery = prepare(
        folder,
        budget,
        model=base or model,
        control=control if control in (None, NO_CONTROL) else find_run_folder(Path(control)),
        attacks=attack or (),
        auxiliary=auxiliary,
        judge=judge,
        seed=seed,
        out=out,
        device=device,
        render_batch=render_batch,
        allow_code=allow_code,
    )
    missing = battery.missing()
    print_lines(f"{battery.budget.name}: {len(battery.cells)} cells, {len(battery.cells) - len(missing)} done, {len(missing)} to do")
    if missing or dry_run:
        _print_costs(battery, missing)
    if dry_run:
        return
    from expunge.audits.worker import run as run_cells
    from expunge.cli.evaluation_table import print_status
    from expunge.cli.progress import report_failures
    from expunge.reports.pages.run import write_audit_page
    from expunge.reports.run_view import read_view, with_audit

    events = list(report_failures(run_cells(battery, workers, address))) if missing else []
    concluded = conclude(battery, events)
    _print_verdicts(concluded)
    print_lines(f"rows    {concluded.folder / 'rows.jsonl'}", f"page    {write_audit_page(concluded, not no_pictures, blur)}")
    print_status(with_audit(read_view(folder), concluded))
    if any(f.applicable for f in concluded.failures):
        raise typer.Exit(FAILED)


def _print_costs(battery: Any, missing: Sequence[Any]) -> None:
    """Prints the estimated cost of each cell that is missing."""
    from expunge.cli.output import print_table
    from expunge.progress import duration

    costs, is_several = battery.costs(missing), len(battery.concepts) > 1
    rows = []
    for cell in battery.cells:
        cost = costs.get(cell.id)
        about = (cell.entry.label, *([cell.concept.target] if is_several else []), cell.side.role)
        price = (f"{cost.forwards:,}", f"{cost.backwards:,}", duration(cost.seconds)) if cost else ("", "", "done")
        rows.append((*about, str(len(cell.entry.attack.strengths)), *price))
    sums = [sum(getattr(c, name) for c in costs.values()) for name in ("forwards", "backwards", "seconds")]
    rows.append(("total", *([""] * (2 + is_several)), f"{sums[0]:,}", f"{sums[1]:,}", duration(sums[2])))
    columns = ("attack", *(["concept"] if is_several else []), "model", "readings", "forwards", "backwards", "time")
    title = f"estimated cost of missing cells, in passes of one sample; {battery.budget.pictures} images for each reading"
    print_table(title, columns, rows, numbers=("readings", "forwards", "backwards", "time"))


def _print_verdicts(audit: Any) -> None:
    """Prints the verdict of each attack, with the shares that it rests on."""
    from expunge.audits.verdict import TITLES
    from expunge.cli.output import print_lines, print_table

    is_several = len(audit.chances) > 1
    rows = []
    for f in audit.findings:
        best, control = f.unlearned.best, f.control.highest_until(f.unlearned.best.strength) if f.control else None
        shares = [f.unlearned.before, f.rate, f.base.best.rate(f.base.judge), *([control] if audit.control else [])]
        name = (f.unlearned.label, *([f.concept] if is_several else []), TITLES[f.state])
        rows.append((*name, *map(_share, shares), f"{best.strength:g} {f.unlearned.result.unit}", str(best.n)))
    shares_of = ("before", "best reading", "base model", *(["retrained"] if audit.control else []))
    columns = ("attack", *(["concept"] if is_several else []), "verdict", *shares_of, "strength", "images")
    print_table("share of images with the concept, with 95 % intervals", columns, rows, numbers=(*shares_of, "images"))
    for done in audit.done:
        if done.result.cut:
            end = f"{done.result.readings[-1].strength:g} {done.result.unit}"
            print_lines(f"{done.label} on {done.role}, {done.result.concept}: ended after {end}: {done.result.cut}")
    if any(f.control is None for f in audit.findings):
        print_lines("No retrained control: an attack that teaches the concept cannot be told from one that brings it back. See --control.")


def _share(rate: Any) -> str:
    return "" if rate is None else f"{rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}]"
