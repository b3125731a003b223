"""`expunge unlearn --dry-run`: what a run would do and cost."""

from pathlib import Path

from expunge.cache import Store
from expunge.cli.screen import duration, say, table
from expunge.config import method_name
from expunge.denoiser import StableDiffusion
from expunge.objective import Objective
from expunge.plan import Plan
from expunge.price import Pace, Price, pace, price
from expunge.types import NEEDS

SHOWN = 3
"""Prompts shown of each set."""

TIMED = 8
"""Samples in the batch that is timed, at most."""


def preview(plan: Plan, denoiser: StableDiffusion, out: Path | None, store: Store) -> None:
    """Prints the resolved needs, the scope, the prompts, what is cached, and what the run will cost. Writes nothing."""
    forget = [p.prompt for p in plan.concept.forget()]
    scope = plan.method.scope.parameters(denoiser.net)
    names, share = list(scope), sum(p.numel() for p in scope.values()) / sum(p.numel() for p in denoiser.net.parameters())
    rows = [
        ("run", f"{out or Path('runs') / plan.id}"),
        ("method", f"{method_name(plan.method)} on {plan.model}, {plan.dtype}, {denoiser.device}, seed {plan.seed}"),
        ("concept", f"{plan.concept.kind} {', '.join(map(repr, plan.concept.names))}"),
        *(("needs", f"{need}: {about}") for need, about in NEEDS.items() if need in plan.method.needs),
        ("scope", f"{plan.method.scope.name}: {len(names)} tensors, {share:.1%} of the network"),
        ("", f"{names[0]} ... {names[-1]}"),
        ("to forget", f"{len(forget)} prompts: {'; '.join(forget[:SHOWN])}{' ...' * (len(forget) > SHOWN)}"),
    ]
    if "retain" in plan.method.needs:
        retain = plan.concept.retain()
        rows.append(("to retain", f"{len(retain)} prompts: {'; '.join(retain[:SHOWN])} ..."))
    table(f"{plan.id} (dry run: nothing is written)", ("", ""), [(name, text) for name, text in rows])
    if isinstance(plan.method, Objective) and plan.training is not None:
        batch = min(TIMED, plan.training.batch_size // plan.training.accumulate)
        _costs(plan, price(plan, denoiser, store), pace(denoiser, plan.method.scope, batch))
    else:
        say("a closed form: no forwards, no backwards, a moment")


def _costs(plan: Plan, cost: Price, each: Pace) -> None:
    assert plan.training is not None
    what = "trajectories" if "trajectory" in plan.method.needs else "pictures"
    cached = f"{what} of the concept: " + ("in the store" if not cost.pictures else "to be made")
    rows = [
        (cached, cost.pictures, 0, cost.pictures * each.forward),
        ("reference: each point and prompt once", cost.reference, 0, cost.reference * each.forward),
        (f"student: {plan.training.steps} steps of {plan.training.batch_size}", cost.student, cost.student, cost.student * each.both),
        ("together", cost.forwards, cost.backwards, each.seconds(cost)),
    ]
    table(
        "cost, in evaluations of the network for one sample",
        ("", "forwards", "backwards", "about"),
        [(name, f"{f:,}", f"{b:,}", duration(s)) for name, f, b, s in rows],
        numbers=("forwards", "backwards", "about"),
    )
