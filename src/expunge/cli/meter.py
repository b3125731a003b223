"""`expunge meter RUN`: how much the weights still know of the concept, and of every other."""

from typing import Annotated, Any

import typer

from expunge.cli.options import BaseModel, Device, RunFolder, run_folder

FORM = "What stands for the noise: orthogonal takes any change of the prediction for knowledge, standard is exact and far noisier."

LEAST = 5
"""Other concepts that are printed: those of which least is kept."""


def meter(
    run: RunFolder,
    model: BaseModel = None,
    pictures: Annotated[int, typer.Option(metavar="N", help="Pictures of each other concept. More narrow the intervals.")] = 6,
    target_pictures: Annotated[int, typer.Option(metavar="N", help="Pictures of the concept.")] = 16,
    draws: Annotated[int, typer.Option(metavar="N", help="Points on the noise path for each picture, an even number.")] = 16,
    others: Annotated[int, typer.Option(metavar="N", help="At most so many siblings, others of its kind, and of other kinds.")] = 24,
    maps: Annotated[int, typer.Option(metavar="N", help="Pictures for which maps show where the information lies.")] = 4,
    form: Annotated[str, typer.Option(metavar="expected|orthogonal|standard", help=FORM)] = "expected",
    seed: Annotated[int, typer.Option(metavar="N", help="Of pictures and points.")] = 0,
    device: Device = "auto",
) -> None:
    """Measure how much the weights still know: of the concept, wanted nothing, and of every other, wanted all.

    In nats, by the model's own predictions of noise: no judge looks, and the unlearned model need draw nothing. What the untouched
    model says is kept, so that its next run takes half the time. `docs/explanation/information.md` says what the number means.
    """
    from expunge.cli.screen import say
    from expunge.config import build
    from expunge.evaluation.information.interview import Meter
    from expunge.evaluation.information.retention import measure_information
    from expunge.reports.pages.information import write
    from expunge.runs.run import Run

    given = {"pictures": pictures, "target_pictures": target_pictures, "draws": draws, "others": others, "maps": maps}
    settings = build(Meter, given | {"form": form, "seed": seed}, "meter")
    made = Run(run_folder(run))
    found = measure_information(made, model, meter=settings, device=device)
    _told(found)
    say(f"rows  {found.folder / 'rows.jsonl'}", f"page  {write(made.folder)}")


def _told(found: Any) -> None:
    """Prints both models' information and their ratio, first of the probes, then of what is kept least."""
    from expunge.cli.screen import say, table
    from expunge.progress import duration

    several = len({r.concept for r in found.rows if r.probe == "target"}) > 1
    each = {held.probe for held in found.held}
    lines: dict[tuple[str, str], dict[tuple[str, bool], Any]] = {}
    for row in found.rows:
        lines.setdefault((row.concept, row.probe), {})[row.metric, row.method == "none"] = row

    def line(key: tuple[str, str]) -> tuple[str, ...]:
        rows = lines[key]
        base, after = rows["information", True], rows["information", False]
        name = f"{key[0]}: {key[1]}" if several and key[1] not in each else key[1]
        return name, _value(base), _value(after), _value(rows.get(("information_ratio", False))), str(base.n)

    columns = ("nats told by the name of", "untouched", "unlearned", "ratio", "n")
    numbers = ("untouched", "unlearned", "ratio", "n")
    table("information, with 95 % intervals over pictures", columns, [line(k) for k in lines if k[1] not in each], numbers)
    kept = {h.probe for h in found.held if not h.removed}
    least = sorted(
        (k for k in lines if k[1] in kept and ("information_ratio", False) in lines[k]),
        key=lambda k: lines[k]["information_ratio", False].value,
    )
    table("kept least", columns, [line(k) for k in least[:LEAST]], numbers)
    say(f"measured in {duration(found.seconds)}")


def _value(row: Any) -> str:
    return "" if row is None else f"{_number(row.value)} [{_number(row.ci_low)}, {_number(row.ci_high)}]"


def _number(value: float) -> str:
    """Three digits, or all that stand before the point.

    >>> _number(27.3618), _number(-0.0299), _number(2770.639)
    ('27.4', '-0.0299', '2,771')
    """
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
