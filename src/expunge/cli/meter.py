"""`expunge meter RUN`: the information about each concept that is left in a run's weights."""

from typing import Annotated, Any

import typer

from expunge.cli.options import BaseModel, Device, RenderBatch, RunFolder, find_run_folder

PICTURES = "Images of each other concept, at least 4. More images narrow the intervals."
DRAWS = "Points on the noise path for each image, an even number. More points reduce the error of each image."
OTHERS = "Siblings, other concepts of the kind, and concepts of other kinds: at most N of each."
FORM = (
    "Estimator: expected has the least noise, standard is exact but noisier, orthogonal counts any change of the prediction as information."
)
RANGE = "Least and greatest logSNR of the noise levels, to compare models whose noise schedules differ.  [default: all of the model's]"

FEWEST = 5
"""Other concepts that are printed: those whose information ratio is lowest."""


def meter(
    run: RunFolder,
    model: BaseModel = None,
    pictures: Annotated[int, typer.Option(metavar="N", help=PICTURES)] = 6,
    target_pictures: Annotated[int, typer.Option(metavar="N", help="Images of the removed concept, at least 8.")] = 16,
    draws: Annotated[int, typer.Option(metavar="N", help=DRAWS)] = 16,
    others: Annotated[int, typer.Option(metavar="N", help=OTHERS)] = 24,
    maps: Annotated[int, typer.Option(metavar="N", help="Images with a map of where the information lies.")] = 4,
    form: Annotated[str, typer.Option(metavar="expected|orthogonal|standard", help=FORM)] = "expected",
    log_snr: Annotated[tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help=RANGE)] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the images and of the points on the noise path.")] = 0,
    device: Device = "auto",
    render_batch: RenderBatch = None,
) -> None:
    """Measure how much the weights know about each concept, in nats.

    The ratio of the unlearned model's information to the base model's should be 0 for the removed concept and 1 for every other. It is
    computed from the models' own noise predictions and needs no judge. The base model's part is cached, so the next run on the same model
    takes half the time. `docs/explanation/information.md` explains the number and its limits.
    """
    from expunge.cli.output import print_lines
    from expunge.config import build
    from expunge.evaluation.information.interview import Meter
    from expunge.evaluation.information.retention import measure_information
    from expunge.reports.pages.information import write_information_page
    from expunge.runs.run import Run

    given = {"pictures": pictures, "target_pictures": target_pictures, "draws": draws, "others": others, "maps": maps}
    settings = build(Meter, given | {"form": form, "log_snr": log_snr, "seed": seed}, "meter")
    finished = Run(find_run_folder(run))
    information = measure_information(finished, model, meter=settings, device=device, render_batch=render_batch)
    _print_information(information)
    print_lines(f"rows    {information.folder / 'rows.jsonl'}", f"page    {write_information_page(finished.folder)}")


def _print_information(information: Any) -> None:
    """Prints both models' information and their ratio: first of the prompt sets, then of the other concepts with the lowest ratios."""
    from expunge.cli.output import print_lines, print_table
    from expunge.progress import duration

    is_several = len({r.concept for r in information.rows if r.probe == "target"}) > 1
    concepts = {one.probe for one in information.held}
    rows: dict[tuple[str, str], dict[tuple[str, bool], Any]] = {}
    for row in information.rows:
        rows.setdefault((row.concept, row.probe), {})[row.metric, row.method == "none"] = row

    def line(key: tuple[str, str]) -> tuple[str, ...]:
        found = rows[key]
        base, unlearned = found["information", True], found["information", False]
        name = f"{key[0]}: {key[1]}" if is_several and key[1] not in concepts else key[1]
        return name, _interval(base), _interval(unlearned), _interval(found.get(("information_ratio", False))), str(base.n)

    columns = ("information about", "base model", "unlearned", "ratio", "images")
    numbers = columns[1:]
    print_table("information in nats, with 95 % intervals", columns, [line(k) for k in rows if k[1] not in concepts], numbers)
    kept = {one.probe for one in information.held if not one.removed}
    lowest = sorted(
        (k for k in rows if k[1] in kept and ("information_ratio", False) in rows[k]),
        key=lambda k: rows[k]["information_ratio", False].value,
    )
    print_table("other concepts with the lowest ratios", columns, [line(k) for k in lowest[:FEWEST]], numbers)
    if information.note:
        print_lines(f"note    {information.note}")
    print_lines(f"took    {duration(information.seconds)}")


def _interval(row: Any) -> str:
    return "" if row is None else f"{_number(row.value)} [{_number(row.ci_low)}, {_number(row.ci_high)}]"


def _number(value: float) -> str:
    """Three significant digits, or all digits before the point if there are more.

    >>> _number(27.3618), _number(-0.0299), _number(2770.639)
    ('27.4', '-0.0299', '2,771')
    """
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
