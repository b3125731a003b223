"""`expunge unlearn --dry-run`: what a run would do and cost."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from expunge.cli.screen import duration, say, table
from expunge.diffusion.batch import NEEDS
from expunge.methods.config import method_name
from expunge.models.base import DiffusionModel
from expunge.models.scopes import Scope, size_of
from expunge.runs.cost import Pace, pace, prices, together
from expunge.runs.plan import Plan
from expunge.storage.cache import Store

SHOWN = 3
"""Prompts shown of each set."""

TIMED = 8
"""Samples in the batch that is timed, at most."""


def preview(plan: Plan, model: DiffusionModel, out: Path | None, store: Store) -> None:
    """Prints the resolved needs, the scope, the prompts, what is cached, and what the run will cost. Writes nothing."""
    # Of a sequence, stage by stage: each knows of the concepts before it alone, and so has prompts that the whole has not.
    stages = plan.stages or (plan,)
    subjects = [concept for stage in stages[:: 1 + len(plan.before)] for concept in stage.concept.parts]
    forget = _by_turns([[p.prompt for p in subject.forget()] for subject in subjects])
    in_sequence = len(stages) > 1 and not plan.before
    rows = [
        ("run", f"{out or Path('runs') / plan.id}"),
        ("method", f"{plan.by} on {plan.model}, {plan.dtype}, {model.device}, seed {plan.seed}"),
        *((f"stage {n}" if in_sequence else "concept", f"{c.kind} {', '.join(map(repr, c.names))}") for n, c in enumerate(subjects, 1)),
        *(("needs", f"{need}: {about}") for need, about in NEEDS.items() if any(need in s.method.needs for s in stages)),
        *(row for scope in dict.fromkeys(s.method.scope for s in stages) for row in _extent(scope, model)),
        ("to forget", f"{len(forget)} prompts: {'; '.join(forget[:SHOWN])}{' ...' * (len(forget) > SHOWN)}"),
    ]
    if plan.stop:
        rows.append(("may stop", ", ".join(f"{k} {v}" for k, v in plan.stop.table().items()) + " (looks are not in the cost)"))
    if any("retain" in s.method.needs for s in stages):
        retain = list(dict.fromkeys(p for subject in subjects for p in subject.retain()))
        rows.append(("to retain", f"{len(retain)} prompts: {'; '.join(retain[:SHOWN])} ..."))
    table(f"{plan.id} (dry run: nothing is written)", ("", ""), [(name, text) for name, text in rows])
    if any(stage.training for stage in stages):
        _costs(plan, model, store)
    else:
        say("a closed form: no forwards, no backwards, a moment")


def _extent(scope: Scope, model: DiffusionModel) -> list[tuple[str, str]]:
    """What is trained, in two lines."""
    found = model.scope(scope)
    names, size = list(found), size_of(found, scope.rank)
    share = f"{size / sum(p.numel() for p in model.network.parameters()):.1%} of the network"
    added = f"{size:,} numbers, rank {scope.rank}, added to " if scope.rank else ""
    return [("scope", f"{scope.name}: {added}{len(names)} tensors, {share}"), ("", f"{names[0]} ... {names[-1]}")]


def _by_turns(lists: Sequence[Sequence[str]]) -> list[str]:
    """Their texts, the first of each first.

    >>> _by_turns([["a", "b", "c"], ["d"]])
    ['a', 'd', 'b', 'c']
    """
    return [text for turn in zip_longest(*lists) for text in turn if text is not None]


def _costs(plan: Plan, model: DiffusionModel, store: Store) -> None:
    """What stages cost together; where methods differ, what each costs."""
    stages = plan.stages or (plan,)
    made = list(zip(stages, prices(plan, model, store), strict=True))
    paces: dict[tuple[Scope, int], Pace] = {}

    def paced(stage: Plan) -> Pace:
        if stage.training is None:
            return Pace(0.0, 0.0)
        key = stage.method.scope, min(TIMED, stage.training.batch_size // stage.training.accumulate)
        if key not in paces:
            paces[key] = pace(model, *key)
        return paces[key]

    total = together(p for _, p in made)
    seconds = [paced(stage).seconds(p) for stage, p in made]
    if any((stage.method, stage.training) != (stages[0].method, stages[0].training) for stage in stages):
        rows = [
            (f"{method_name(stage.method)}, {stage.concept.target}", p.forwards, p.backwards, s)
            for (stage, p), s in zip(made, seconds, strict=True)
        ]
    else:
        each, steps = paced(stages[0]), sum(stage.training.steps for stage in stages if stage.training)
        what = "trajectories" if "trajectory" in stages[0].method.needs else "pictures"
        cached = f"{what} of the concept: " + ("in the store" if not total.pictures else "to be made")
        rows = [
            (cached, total.pictures, 0, total.pictures * each.forward),
            ("reference: each point and prompt once", total.reference, 0, total.reference * each.forward),
            (f"student: {steps} steps of {total.student // steps}", total.student, total.student, total.student * each.both),
            *([("student and mean, without gradient", total.glances, 0, total.glances * each.forward)] if total.glances else []),
        ]
    rows.append(("together", total.forwards, total.backwards, sum(seconds)))
    table(
        "cost, in evaluations of the network for one sample",
        ("", "forwards", "backwards", "about"),
        [(name, f"{f:,}", f"{b:,}", duration(s)) for name, f, b, s in rows],
        numbers=("forwards", "backwards", "about"),
    )
