"""`expunge unlearn --dry-run`: what a run would do and cost."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from expunge.cache import Store
from expunge.cli.screen import duration, say, table
from expunge.config import method_name
from expunge.denoiser import StableDiffusion
from expunge.objective import Objective
from expunge.plan import Plan
from expunge.price import Pace, Price, pace, price
from expunge.probe import stop_table
from expunge.types import NEEDS

SHOWN = 3
"""Prompts shown of each set."""

TIMED = 8
"""Samples in the batch that is timed, at most."""


def preview(plan: Plan, denoiser: StableDiffusion, out: Path | None, store: Store) -> None:
    """Prints the resolved needs, the scope, the prompts, what is cached, and what the run will cost. Writes nothing."""
    # Of a sequence, stage by stage: each knows of the concepts before it alone, and so has prompts that the whole has not.
    subjects = [concept for stage in plan.stages for concept in stage.concept.parts] or [*plan.concept.parts]
    forget = _by_turns([[p.prompt for p in subject.forget()] for subject in subjects])
    scope, net = plan.method.scope, denoiser.net
    names, size = list(scope.parameters(net)), scope.size(net)
    share = f"{size / sum(p.numel() for p in net.parameters()):.1%} of the network"
    rows = [
        ("run", f"{out or Path('runs') / plan.id}"),
        ("method", f"{method_name(plan.method)} on {plan.model}, {plan.dtype}, {denoiser.device}, seed {plan.seed}"),
        *((f"stage {n}" if plan.stages else "concept", f"{c.kind} {', '.join(map(repr, c.names))}") for n, c in enumerate(subjects, 1)),
        *(("needs", f"{need}: {about}") for need, about in NEEDS.items() if need in plan.method.needs),
        ("scope", f"{scope.name}: {f'{size:,} numbers, rank {scope.rank}, added to ' if scope.rank else ''}{len(names)} tensors, {share}"),
        ("", f"{names[0]} ... {names[-1]}"),
        ("to forget", f"{len(forget)} prompts: {'; '.join(forget[:SHOWN])}{' ...' * (len(forget) > SHOWN)}"),
    ]
    if plan.stop:
        rows.append(("may stop", ", ".join(f"{k} {v}" for k, v in stop_table(plan.stop).items()) + " (looks are not in the cost)"))
    if "retain" in plan.method.needs:
        retain = list(dict.fromkeys(p for subject in subjects for p in subject.retain()))
        rows.append(("to retain", f"{len(retain)} prompts: {'; '.join(retain[:SHOWN])} ..."))
    table(f"{plan.id} (dry run: nothing is written)", ("", ""), [(name, text) for name, text in rows])
    if isinstance(plan.method, Objective) and plan.training is not None:
        batch = min(TIMED, plan.training.batch_size // plan.training.accumulate)
        _costs(plan, price(plan, denoiser, store), pace(denoiser, plan.method.scope, batch))
    else:
        say("a closed form: no forwards, no backwards, a moment")


def _by_turns(lists: Sequence[Sequence[str]]) -> list[str]:
    """Their texts, the first of each first.

    >>> _by_turns([["a", "b", "c"], ["d"]])
    ['a', 'd', 'b', 'c']
    """
    return [text for turn in zip_longest(*lists) for text in turn if text is not None]


def _costs(plan: Plan, cost: Price, each: Pace) -> None:
    assert plan.training is not None
    steps = plan.training.steps * max(1, len(plan.stages))
    what = "trajectories" if "trajectory" in plan.method.needs else "pictures"
    cached = f"{what} of the concept: " + ("in the store" if not cost.pictures else "to be made")
    rows = [
        (cached, cost.pictures, 0, cost.pictures * each.forward),
        ("reference: each point and prompt once", cost.reference, 0, cost.reference * each.forward),
        (
            f"student: {steps} steps of {cost.student // steps}",
            cost.student,
            cost.student,
            cost.student * each.both,
        ),
        *([("student and mean, without gradient", cost.glances, 0, cost.glances * each.forward)] if cost.glances else []),
        ("together", cost.forwards, cost.backwards, each.seconds(cost)),
    ]
    table(
        "cost, in evaluations of the network for one sample",
        ("", "forwards", "backwards", "about"),
        [(name, f"{f:,}", f"{b:,}", duration(s)) for name, f, b, s in rows],
        numbers=("forwards", "backwards", "about"),
    )
