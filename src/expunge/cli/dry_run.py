"""`expunge unlearn --dry-run`: what a run will do and cost."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from expunge.cli.output import print_lines, print_table
from expunge.diffusion.batch import NEEDS
from expunge.methods.base import Edit, Which
from expunge.methods.config import method_name
from expunge.models.base import DiffusionModel
from expunge.models.outline import is_identified
from expunge.models.scopes import Scope, size_of
from expunge.progress import duration
from expunge.runs.estimate import Estimate, estimate_plan
from expunge.runs.plan import Plan, can_be_quantized
from expunge.training.banks import trained_on
from expunge.training.session import Session

SHOWN = 3
"""Prompts printed of each set."""


def print_plan(plan: Plan, session: Session, out: Path | None) -> None:
    """Prints the method's needs, the scope, the prompts, what is cached, and the estimated cost. Writes nothing."""
    model = session.model
    # A stage knows only the concepts before it, so the prompts of a sequence are those of its stages.
    stages = plan.stages or (plan,)
    concepts = [concept for stage in stages[:: 1 + len(plan.before)] for concept in stage.concept.parts]
    forget = _interleave([[p.prompt for p in of] for stage in stages for of in trained_on(stage.concept, prompts_of(stage))])
    forget = list(dict.fromkeys(forget))  # several methods in turn may have the same prompts
    is_sequence = len(stages) > 1 and not plan.before
    rows = [
        (
            "run",
            str(out or Path("runs") / (plan.id if is_identified(model) else "ID, known once the weights were read")),
        ),
        ("method", f"{plan.by} on {plan.model}, {plan.dtype}, {model.device_kind}, seed {plan.seed}"),
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
    print_table(f"{plan.id if is_identified(model) else plan.by} (dry run: nothing is written)", ("", ""), rows)
    if any(stage.training for stage in stages):
        _print_costs(estimate_plan(plan, session))
    else:
        print_lines("A closed form takes no forward and no backward passes.")


def prompts_of(stage: Plan) -> Which:
    """Which prompts a stage forgets: its training says so, or its closed form."""
    return stage.training.prompts if stage.training else stage.method.prompts if isinstance(stage.method, Edit) else "every"


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


def _print_costs(found: Estimate) -> None:
    """Prints the cost of all stages together; if their methods differ, the cost of each."""
    stages, total = found.stages, found.price
    first = stages[0].plan
    if any((s.plan.method, s.plan.training) != (first.method, first.training) for s in stages):
        rows = [(f"{method_name(s.plan.method)}, {s.plan.concept.target}", s.price.forwards, s.price.backwards, s.seconds) for s in stages]
    else:
        each, steps = stages[0].pace, sum(s.plan.training.steps for s in stages if s.plan.training)
        forward, both = (each.forward, each.both) if each else (None, None)
        what = "trajectories" if first.method.needs & {"trajectory", "surrogate_trajectory"} else "images"
        name = f"{what} of the concept: {'to generate' if total.pictures else 'in the cache'}"
        rows = [
            (name, total.pictures, 0, _times(total.pictures, forward)),
            ("reference: each point and prompt once", total.reference, 0, _times(total.reference, forward)),
            (f"student: {steps} steps of {total.student // steps}", total.student, total.student, _times(total.student, both)),
            *([("student and EMA, without gradient", total.glances, 0, _times(total.glances, forward))] if total.glances else []),
        ]
    rows.append(("total", total.forwards, total.backwards, found.seconds))
    print_table(
        "cost, in passes of one sample (exact); time is an estimate",
        ("", "forwards", "backwards", "time"),
        [(name, f"{f:,}", f"{b:,}", "not measured" if s is None else duration(s)) for name, f, b, s in rows],
        numbers=("forwards", "backwards", "time"),
    )
    _print_memory(found)


def _print_memory(found: Estimate) -> None:
    """Prints the operations, the memory of each phase and the disk."""
    model = found.session.model
    rows = [("operations", "not counted" if found.flops is None else f"{found.flops / 1e12:,.1f} TFLOP")]
    if found.memory is None:
        rows.append(("memory", "not estimated for this family"))
    else:
        rows += [(f"memory, {phase}", gibibytes(octets)) for phase, octets in found.memory.items()]
        rows.append(("needs", f"{gibibytes(max(found.memory.values()))} on {model.device_kind}, libraries left out"))
        stored = found.memory_with("nf4") if not model.quantization and can_be_quantized(found.plan) else None
        rows += [("with --quantize nf4", gibibytes(max(stored.values())))] if stored else []
    print_table("estimated memory and disk", ("", ""), [*rows, ("disk", gibibytes(found.disk))])


def _times(count: int, seconds: float | None) -> float | None:
    return None if seconds is None else count * seconds


def gibibytes(octets: float) -> str:
    """Bytes as a person reads them.

    >>> gibibytes(3 * 2**29), gibibytes(2**20)
    ('1.5 GiB', '1 MiB')
    """
    return f"{octets / 2**30:,.1f} GiB" if octets >= 2**30 else f"{octets / 2**20:,.0f} MiB"
