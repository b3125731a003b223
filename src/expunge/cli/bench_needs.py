"""What `expunge bench --dry-run` says before a model is loaded: what is missing, where to get it, and how many images there are."""

from collections.abc import Sequence
from typing import Any

from expunge.cli.output import print_lines, print_table


def print_needs(plan: Any, needs: Sequence[Any]) -> None:
    """Prints what a suite has of what it needs from elsewhere, and what is missing, with where to get it."""
    from expunge.bench.published import describe_data, look

    rows = [("missing", need.option, need.about) for need in needs]
    for name, entry in plan.data.items():
        if found := look(name, entry):
            rows.append(("here", f"--data {name}={entry.file}", found.note))
        elif entry.optional:
            rows.append(("left out", f"--data {name}=...", describe_data(entry)))
    if rows:
        print_table("data, model and judge", ("", "option", "what it is"), rows)
    if plan.about:
        print_lines(f"{plan.about.title}: {plan.about.measures}", "")


def print_images(plan: Any) -> None:
    """Prints the price of a suite without its model or data: images and the forwards that they take."""
    from expunge.bench.cost import count_images
    from expunge.bench.suite import targets_of
    from expunge.config import build
    from expunge.models.sampling import Sampler

    sampler = build(Sampler, dict(plan.sampler), "sampler")
    base, runs = count_images(plan.units, sampler)
    each = sampler.steps * (2 if sampler.guidance_scale > 1 else 1)
    absent = {n: e for n, e in plan.data.items() if e.kind == "prompts" and not e.file and not e.optional}
    of_units = [{n for n, e in absent.items() if not e.concepts or not targets_of(u.concept).isdisjoint(e.concepts)} for u in plan.units]
    base += sum(absent[n].rows or 0 for n in set().union(*of_units))
    runs += sum(absent[n].rows or 0 for names in of_units for n in names)
    print_lines(
        f"{len(plan.units):,} units: {base:,} images of the base model and {runs:,} of runs; {each} forwards each",
        "With all of it, a dry run estimates time, training and disk too.",
    )
