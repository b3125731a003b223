"""`expunge unlearn --dry-run`: what a run will do and cost."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from expunge.cli.output import print_lines, print_table
from expunge.diffusion.batch import NEEDS
from expunge.methods.config import method_name
from expunge.models.base import DiffusionModel
from expunge.models.scopes import Scope, size_of
from expunge.progress import duration
from expunge.runs.cost import Pace, pace, prices, together
from expunge.runs.plan import Plan
from expunge.training.session import Session

SHOWN = 3
"""Prompts printed of each set."""

TIMED = 8
"""Largest batch, in samples, for which the network is timed."""


def print_plan(plan: Plan, session: Session, out: Path | None) -> None:
    """Prints the method's needs, the scope, the prompts, what is cached, and the estimated cost. Writes nothing."""
    model = session.model
    # A stage knows only the concepts before it, so the prompts of a sequence are those of its stages.
    stages = plan.stages or (plan,)
    concepts = [concept for stage in stages[:: 1 + len(plan.before)] for concept in stage.concept.parts]
    forget = _interleave([[p.prompt for p in concept.forget()] for concept in concepts])
    is_sequence = len(stages) > 1 and not plan.before
    rows = [
        ("run", f"{out or Path('runs') / plan.id}"),
        ("method", f"{plan.by} on {plan.model}, {plan.dtype}, {model.device}, seed {plan.seed}"),
        *((f"stage {n}" if is_sequence else "concept", f"{c.kind} {', '.join(map(repr, c.names))}") for n, c in enumerate(concepts, 1)),
        *(("needs", f"{need}: {about}") for need, about in NEEDS.items() if any(need in s.method.needs for s in stages)),
        *(row for scope in dict.fromkeys(s.method.scope for s in stages) for row in _describe_scope(scope, model)),
        ("to forget", f"{len(forget)} prompts: {'; '.join(forget[:SHOWN])}{' ...' * (len(forget) > SHOWN)}"),
    ]
    if plan.stop:
        rule = ", ".join(f"{k} {v}" for k, v in plan.stop.table().items())
        rows.append(("may stop", f"{rule} (the cost below is without its images)"))
    if any("retain" in s.method.needs for s in stages):
        retain = list(dict.fromkeys(p for concept in concepts for p in concept.retain()))
        rows.append(("to retain", f"{len(retain)} prompts: {'; '.join(retain[:SHOWN])} ..."))
    print_table(f"{plan.id} (dry run: nothing is written)", ("", ""), rows)
    if any(stage.training for stage in stages):
        _print_costs(plan, session)
    else:
        print_lines("A closed form takes no forward and no backward passes.")


def _describe_scope(scope: Scope, model: DiffusionModel) -> list[tuple[str, str]]:
    """What is trained, in two rows."""
    found = model.scope(scope)
    names, size = list(found), size_of(found, scope.rank)
    share = f"{size / sum(p.numel() for p in model.network.parameters()):.1%} of the network"
    added = f"{size:,} numbers, rank {scope.rank}, added to " if scope.rank else ""
    return [("scope", f"{scope.name}: {added}{len(names)} tensors, {share}"), ("", f"{names[0]} ... {names[-1]}")]


def _interleave(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first text of each list, then the second of each, and so on.

    >>> _interleave([["a", "b", "c"], ["d"]])
    ['a', 'd', 'b', 'c']
    """
    return [text for turn in zip_longest(*lists) for text in turn if text is not None]


def _print_costs(plan: Plan, session: Session) -> None:
    """Prints the cost of all stages together; if their methods differ, the cost of each."""
    stages = plan.stages or (plan,)
    priced = list(zip(stages, prices(plan, session), strict=True))
    paces: dict[tuple[Scope, int], Pace] = {}

    def pace_of(stage: Plan) -> Pace:
        if stage.training is None:
            return Pace(0.0, 0.0)
        key = stage.method.scope, min(TIMED, stage.training.batch_size // stage.training.accumulate)
        if key not in paces:
            paces[key] = pace(session.model, *key)
        return paces[key]

    total = together(p for _, p in priced)
    seconds = [pace_of(stage).seconds(p) for stage, p in priced]
    if any((stage.method, stage.training) != (stages[0].method, stages[0].training) for stage in stages):
        rows = [
            (f"{method_name(stage.method)}, {stage.concept.target}", p.forwards, p.backwards, s)
            for (stage, p), s in zip(priced, seconds, strict=True)
        ]
    else:
        each, steps = pace_of(stages[0]), sum(stage.training.steps for stage in stages if stage.training)
        what = "trajectories" if "trajectory" in stages[0].method.needs else "images"
        name = f"{what} of the concept: {'to generate' if total.pictures else 'in the cache'}"
        rows = [
            (name, total.pictures, 0, total.pictures * each.forward),
            ("reference: each point and prompt once", total.reference, 0, total.reference * each.forward),
            (f"student: {steps} steps of {total.student // steps}", total.student, total.student, total.student * each.both),
            *([("student and EMA, without gradient", total.glances, 0, total.glances * each.forward)] if total.glances else []),
        ]
    rows.append(("total", total.forwards, total.backwards, sum(seconds)))
    print_table(
        "estimated cost, in passes of one sample",
        ("", "forwards", "backwards", "time"),
        [(name, f"{f:,}", f"{b:,}", duration(s)) for name, f, b, s in rows],
        numbers=("forwards", "backwards", "time"),
    )
