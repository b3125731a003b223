"""Estimate the cost of a suite before it is run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge.audits.cells import ResultStore
from expunge.audits.examples import EXAMPLES as ATTACKED
from expunge.audits.runner import Battery, Cost
from expunge.audits.sides import Side
from expunge.bench.identity import budget_of, control_of
from expunge.bench.runner import Place, is_attacked, missing, plan_of, sampler_of, session_of
from expunge.bench.suite import Unit
from expunge.concepts.prompt_file import read_prompts
from expunge.concepts.tables import concept_from, target_of
from expunge.evaluation.judged import PAIRS
from expunge.evaluation.judges import Judge
from expunge.evaluation.prompt_lists import plan_list
from expunge.evaluation.protocol import Protocol, Shot
from expunge.evaluation.protocol import plan as shots_of
from expunge.evaluation.rendering import locate_images
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler
from expunge.models.scopes import SCOPES, Scope
from expunge.names import RETRAINED
from expunge.runs.cost import Price, pace, price
from expunge.training.session import Session

DRIFT = 2 * 128
"""Forwards for the null drift of a run, in addition to its images of the empty prompt."""
TIMED = 8
"""The largest batch that is timed."""


@dataclass(frozen=True)
class Estimate:
    """The cost of the missing units of one label, or of the base model and controls."""

    label: str
    units: int
    forwards: int
    backwards: int
    seconds: float
    octets: int
    """An upper bound of the bytes on disk: changed weights, and uncompressed images."""


def estimate(units: Sequence[Unit], place: Place) -> list[Estimate]:
    """Estimate the cost of what is missing of units, label by label, without writing anything. Finished parts of a unit cost nothing.

    The training of each label is timed once, with its first unit, for all its units. Images of the base model are counted once for all
    units, if the cache lacks them. Attacks on controls are counted once, as if none were done. Judges, loading and writing are left out.
    """
    labels = dict.fromkeys(u.label for u in units)
    return [_base(units, place)] * bool(units) + [_label([u for u in units if u.label == n], place) for n in labels]


def _label(units: Sequence[Unit], place: Place) -> Estimate:
    """The cost of the units of one label."""
    first, session = units[0], session_of(units[0], place)
    loaded = session.model
    unmade = [u for u in units if not (place.folder(u) / "delta.safetensors").exists()]
    unmeasured = [u for u in units if missing(u, place.folder(u))]
    attacked = [u for u in units if not is_attacked(u, place.folder(u))]
    scope, cost = _work(first, session) if unmade else (SCOPES["xattn"], Price(0, 0, 0))
    each = pace(loaded, scope, max(1, min(TIMED, first.training.get("batch_size", TIMED) // first.training.get("accumulate", 1))))
    sampler = sampler_of(first, loaded)
    attack = _attacks(attacked[0], session) if attacked else Cost(0, 0, 0.0)
    images = [guided for u in unmeasured for _, guided in _images(u, sampler)] + [sampler for u in unmeasured for _ in _again(u)]
    pictures = len(images)
    plain = sum(u.metrics != () for u in unmeasured)
    looking = plain * (DRIFT + 32 * sampler.steps) + sum(map(loaded.forwards_per_image, images))
    changed = sum(p.numel() * p.element_size() for p in loaded.scope(scope).values())
    probes = 6 * PAIRS * 2 * plain + len(attacked) * _kept_of(first)
    return Estimate(
        first.label,
        len(units),
        len(unmade) * cost.forwards + looking + len(attacked) * attack.forwards,
        len(unmade) * cost.backwards + len(attacked) * attack.backwards,
        len(unmade) * each.seconds(cost) + looking * each.forward + len(attacked) * attack.seconds,
        len(unmade) * changed + (pictures + probes) * _octets(loaded),
    )


def _base(units: Sequence[Unit], place: Place) -> Estimate:
    """The cost of the base model's images and of attacks on controls."""
    first, session = units[0], session_of(units[0], place)
    loaded = session.model
    sampler = sampler_of(first, loaded)
    count = forwards = 0
    for guided, shots in base_images([u for u in units if missing(u, place.folder(u))], sampler).items():
        absent = sum(not f.exists() for f in locate_images(session, shots, guided, loaded.fingerprint))
        count, forwards = count + absent, forwards + absent * loaded.forwards_per_image(guided)
    seconds = forwards * pace(loaded, SCOPES["xattn"], TIMED).forward
    # The controls of attacks, once for each concept and seed.
    attacked = list({(target_of(u.concept), u.seed): u for u in units if not is_attacked(u, place.folder(u))}.values())
    each = [(1 + bool(control_of(u)), _attacks(u, session)) for u in attacked]
    forwards, backwards = forwards + sum(n * c.forwards for n, c in each), sum(n * c.backwards for n, c in each)
    return Estimate("base model", 0, forwards, backwards, seconds + sum(n * c.seconds for n, c in each), count * _octets(loaded))


def base_images(units: Sequence[Unit], sampler: Sampler) -> dict[Sampler, list[Shot]]:
    """The images of the base model that units need, each once, by how they are sampled."""
    found: dict[Sampler, dict[tuple[str, int], Shot]] = {}
    for unit in {(target_of(u.concept), u.seed): u for u in units}.values():
        for shot, guided in _images(unit, sampler):
            found.setdefault(guided, {})[shot.prompt.prompt, shot.noise_seed] = shot
    return {guided: list(shots.values()) for guided, shots in found.items()}


def count_images(units: Sequence[Unit], sampler: Sampler) -> tuple[int, int]:
    """The images of the base model and of all runs that units need, none of which need be made yet. Needs no model."""
    base = sum(map(len, base_images(units, sampler).values()))
    return base, sum(len(_images(u, sampler)) + len(_again(u)) for u in units)


def _images(unit: Unit, sampler: Sampler) -> list[tuple[Shot, Sampler]]:
    """The images of a unit's result, and of the lists of prompts that it is measured on."""
    listed = [
        (shot, replace(sampler, guidance_scale=scale))
        for one in unit.prompt_lists
        for shot, scale in plan_list(read_prompts(Path(one.file), one.columns), unit.seed, sampler.guidance_scale)
    ]
    return [(shot, sampler) for shot in _shots(unit)] + listed


def _kept_of(unit: Unit) -> int:
    """An upper bound of the images that an audit keeps, of the run and both controls."""
    return 3 * 3 * ATTACKED * len(unit.audit["budget"]["attacks"]) if unit.audit else 0


def _attacks(unit: Unit, session: Session) -> Cost:
    """The cost of the attacks on a unit or on one of its controls, as estimated for the base model."""
    if unit.audit is None:
        return Cost(0, 0, 0.0)
    budget, concepts = budget_of(unit), concept_from(unit.concept).parts
    nobody: dict[str, tuple[Judge, ...]] = {c.target: () for c in concepts}
    one, kept = (Side("base", None, {}),), ResultStore(Path(), session.cache)
    battery = Battery(session, budget, one, concepts, nobody, unit.seed, sampler_of(unit, session.model), kept)
    costs = battery.costs(battery.cells).values()
    return Cost(sum(c.forwards for c in costs), sum(c.backwards for c in costs), sum(c.seconds for c in costs))


def _shots(unit: Unit) -> list[Shot]:
    """The images of the metrics of a unit; those that several concepts share count once."""
    if unit.metrics == ():
        return []
    parts, protocol = concept_from(unit.concept).parts, Protocol(**unit.protocol)
    if len(parts) == 1:
        return shots_of(parts[0], protocol)
    return list({(s.prompt.prompt, s.noise_seed): s for c in parts for s in shots_of(c, protocol)}.values())


def _again(unit: Unit) -> list[Shot]:
    """The images after each stage of a sequence except the last."""
    if unit.metrics == () or unit.concept.get("together") != "sequential":
        return []
    parts, protocol = concept_from(unit.concept).parts, Protocol(**unit.protocol)
    each = [[s for s in shots_of(c, protocol) if s.probe in ("target", "synonyms")] for c in parts]
    return [s for done in range(1, len(parts)) for shots in each[:done] for s in shots]


def _work(unit: Unit, session: Session) -> tuple[Scope, Price]:
    """What a unit trains, and its cost."""
    if unit.method == RETRAINED:
        return SCOPES["full"], Price(0, 0, unit.training["steps"] * unit.training["batch_size"])
    plan = plan_of(unit, session.model)
    return plan.method.scope, price(plan, session)


def _octets(model: DiffusionModel) -> int:
    """Bytes of an uncompressed image."""
    return 3 * model.size**2
