"""The banks of points that training draws from, made once by the base model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from expunge.concepts.concept import ForgetPrompt
from expunge.concepts.groups import Subject
from expunge.concepts.name_set import NameSet
from expunge.diffusion.batch import Need
from expunge.diffusion.types import Cond, Latents, Noised, Point, Repeated
from expunge.methods.base import Training, Which
from expunge.models.base import DiffusionModel
from expunge.models.sampling import Sampler, Visit
from expunge.storage.cache import Store
from expunge.storage.hashing import digest, seed_of
from expunge.training.networks import ReferenceCache
from expunge.training.renderer import Renderer
from expunge.training.session import Session

RENDER_BATCH = 32
"""Images that are sampled at once, unless the session says otherwise."""

PICTURES: dict[Need, str] = {
    "forget": "images of the concept",
    "anchor_pictures": "images of the anchor",
    "surrogate": "images of others in its place",
    "replaced": "images of the replacement",
    "retain": "images that must survive",
    "anything": "images of random prompts",
}
"""What a progress bar says while the images of a part are sampled."""


Replaced = Literal["marginal", "context", "null"]
"""What a trajectory without the concept is sampled with."""


@dataclass(frozen=True)
class Bank:
    """The points of one part and, for each, the forget prompt that it belongs to."""

    points: Point | Noised
    prompts: tuple[ForgetPrompt, ...] = ()
    """Row by row; none for what must survive."""
    marginals: tuple[str, ...] = ()
    """Row by row, a random prompt of `ForgetPrompt.marginals`: fixed for each point, so that its reference is computed once."""
    siblings: tuple[str, ...] = ()
    """Row by row, a random prompt of `ForgetPrompt.siblings`; where there are none, the marginal."""
    replacements: tuple[str, ...] = ()
    """Row by row, the forget prompt with the replacement in the concept's place; empty where no method reads it."""
    other_words: tuple[str, ...] = ()
    """Row by row, the forget prompt with a random word in the concept's place; empty where no method reads it."""

    @cached_property
    def groups(self) -> list[list[int]]:
        """The rows of each concept; of what must survive all rows in one group."""
        of: dict[str, list[int]] = {}
        for row in range(len(self.points)):
            of.setdefault(self.prompts[row].concept if self.prompts else "", []).append(row)
        return list(of.values())


def forget_bank(session: Session, concept: Subject, training: Training, seed: int) -> Bank:
    """Images of the concept by the base model, noised at times spread evenly over the path."""
    chosen, seeds = images_of(concept, training, seed)
    generator = torch.Generator().manual_seed(seed_of(seed, "noise"))
    shown = [p.prompt for p in chosen]
    points, which = _noised(session, training, "forget", (shown, shown, seeds), generator)
    rows = tuple(chosen[i] for i in which)
    return _bank(points, rows, _drawn(rows, generator), seed)


def images_of(concept: Subject, training: Training, seed: int) -> tuple[list[ForgetPrompt], list[int]]:
    """The images of the concept that training reads: a prompt and a seed each."""
    chosen = _in_turn(concept, training, min(training.pictures, training.points))
    return chosen, [seed_of(seed, "picture", i) for i in range(len(chosen))]


def stand_in_bank(session: Session, concept: Subject, need: Need, training: Training, seed: int) -> Bank:
    """Images by the base model of what replaces the concept, each under the forget prompt.

    For `surrogate` another member of the kind, chosen at random (where none may replace it, the context), for `anchor_pictures` the
    anchor.
    """
    chosen = _in_turn(concept, training, min(training.pictures, training.points))
    generator = torch.Generator().manual_seed(seed_of(seed, need, "noise"))
    drawn = _drawn(chosen, generator)
    made_of = list(drawn) if need == "surrogate" else [p.anchor for p in chosen]
    seeds = [seed_of(seed, need, "picture", i) for i in range(len(chosen))]
    points, which = _noised(session, training, need, (made_of, [p.prompt for p in chosen], seeds), generator)
    return _bank(points, tuple(chosen[i] for i in which), tuple(drawn[i] for i in which), seed_of(seed, need))


def replaced_bank(
    session: Session, concept: Subject, replacement: Callable[[ForgetPrompt], str], training: Training, seed: int
) -> Bank:  # fmt: skip
    """Images by the base model of what replaces the concept, each under the forget prompt."""
    chosen = _in_turn(concept, training, min(training.pictures, training.points))
    made_of = [replacement(p) for p in chosen]
    seeds = [seed_of(seed, "replaced", "picture", i) for i in range(len(chosen))]
    generator = torch.Generator().manual_seed(seed_of(seed, "replaced", "noise"))
    points, which = _noised(session, training, "replaced", (made_of, [p.prompt for p in chosen], seeds), generator)
    return Bank(points, tuple(chosen[i] for i in which), replacements=tuple(made_of[i] for i in which))


def retain_bank(session: Session, concept: Subject, training: Training, seed: int) -> Bank:
    """Images by the base model of what must survive, spread evenly over its prompts, each under its own."""
    prompts = surviving(concept)
    count = min(training.retain_pictures, training.points)
    chosen = [prompts[i * len(prompts) // count % len(prompts)] for i in range(count)]
    seeds = [seed_of(seed, "retain", "picture", i) for i in range(count)]
    generator = torch.Generator().manual_seed(seed_of(seed, "retain", "noise"))
    return Bank(_noised(session, training, "retain", (chosen, chosen, seeds), generator)[0])


def surviving(concept: Subject) -> list[str]:
    """The prompts of `Concept.retain` that hold none of the words of the concept, or of others that are removed.

    An open vocabulary may have them inside another name, as "Monet" in "Monet's garden"; an image of that is one of the concept.
    """
    removed = {id(r): r for c in concept.parts for r in c.removed}.values()  # in a group every part has nearly the same
    words = NameSet([*concept.names, *(n for r in removed for n in r.known)])
    return [p for p in concept.retain() if not words.search(p)]


def trained_on(concept: Subject, which: Which) -> list[list[ForgetPrompt]]:
    """The prompts to forget, of each concept: every one, or those that hold the concept alone."""
    return [[p for p in c.forget() if which == "every" or p.is_bare] for c in concept.parts]


def _in_turn(concept: Subject, training: Training, count: int) -> list[ForgetPrompt]:
    """Prompts to forget, of each concept in turn: all of them over and over, or where there are more than are asked for, some of
    them, spread evenly, since a concept's other names come last."""
    prompts = trained_on(concept, training.prompts)
    chosen = []
    for i in range(count):
        nth, at = divmod(i, len(prompts))
        of, each = prompts[at], len(range(at, count, len(prompts)))
        chosen.append(of[nth % len(of) if each >= len(of) else nth * len(of) // each])
    return chosen


def _noised(
    session: Session, training: Training, need: Need, images: tuple[list[str], list[str], list[int]], generator: torch.Generator
) -> tuple[Noised, list[int]]:
    """Images of prompts, noised at times spread evenly over the path, under other prompts. Also gives the image that each point is of.

    Args:
        images: for each image the prompt that it is made of, the prompt that it is shown under, and its seed.
    """
    made_of, shown, seeds = images
    clean = pictured(session, need, made_of, seeds, sampler_of(session.model, training))
    return noised(session.model, need, clean, shown, training.points, generator)


def sampler_of(model: DiffusionModel, training: Training) -> Sampler:
    """How images and trajectories to train on are sampled: as the training says, else as the model is."""
    usual, steps, guidance = model.default_sampler, training.train_sampler_steps, training.train_guidance
    return Sampler(steps or usual.steps, usual.guidance_scale if guidance is None else guidance)


def pictured(session: Session, need: Need, prompts: list[str], seeds: list[int], sampler: Sampler | None = None) -> Latents:
    """Clean latents of images of the prompts, from the cache if they are there; by default with the model's own sampler."""
    model, sampler = session.model, sampler or session.model.default_sampler
    made_by = model.fingerprint, Renderer(session, RENDER_BATCH).key(__name__)
    key = digest(f"{need}-latents", *made_by, prompts, seeds, sampler.steps, sampler.guidance_scale)
    return _stored(session.cache, key, prompts, lambda: {"x_0": _latents(session, prompts, seeds, sampler, PICTURES[need])})["x_0"]


def noised(
    model: DiffusionModel,
    need: Need,
    clean: Latents,
    shown: list[str],
    count: int,
    generator: torch.Generator,
    between: tuple[float, float] = (0.0, 1.0),
) -> tuple[Noised, list[int]]:
    """Those images noised to `count` points at times spread evenly over the path, each under its prompt of `shown`.

    Also gives the image that each point is of.

    Args:
        between: the shares of the path that the times begin and end at.
    """
    which = torch.arange(count) % len(clean)
    strata = torch.randperm(count, generator=generator)
    shares = (strata + torch.rand(count, generator=generator)) / count
    t = model.path.times(between[0] + (between[1] - between[0]) * shares)
    noise = torch.randn(count, *clean.shape[1:], generator=generator)
    x_0 = clean[which]
    rows = which.tolist()
    cond = _encoded(model, [shown[i] for i in rows]).to("cpu")
    keys = tuple(f"{need}/{i}" for i in range(count))
    return Noised(model.path.add_noise(x_0, noise, t), t, cond, keys, model.path.goal(x_0, noise, t)), rows


def trajectory_bank(
    session: Session,
    concept: Subject,
    training: Training,
    seed: int,
    references: ReferenceCache,
    replaced: Replaced | None = None,
) -> Bank:
    """Points that the base model visits while it samples the concept under guidance; or, with `replaced`, the marginal, the context or the
    empty prompt in its place. Each point is under its forget prompt.

    The two predictions that guidance needs at each point are the reference's outputs there, so they go into `references` at no cost.
    """
    model, sampler, prompts = session.model, sampler_of(session.model, training), trained_on(concept, training.prompts)
    each = max(1, min(training.pictures, -(-training.points // sampler.steps)) // len(prompts))
    count = each * len(prompts)
    chosen = [of[i * len(of) // each % len(of)] for i in range(each) for of in prompts]
    seeds = [seed_of(seed, "trajectory", i) for i in range(count)]
    made_by = model.fingerprint, Renderer(session, RENDER_BATCH).key(__name__)
    drawn = _drawn(chosen, torch.Generator().manual_seed(seed_of(seed, "surrogate_trajectory")))
    sampled = {None: [p.prompt for p in chosen], "marginal": list(drawn), "context": [p.context for p in chosen], "null": [""] * count}[
        replaced
    ]
    key = digest("visits", *made_by, sampled, seeds, sampler.steps, sampler.guidance_scale)
    path = _stored(session.cache, key, sampled, lambda: _trajectories(session, sampled, seeds, sampler))

    visits = path["x_t"].shape[1]  # some schedulers, PNDM and Heun among them, visit more points than they have steps
    rows = tuple(p for p in chosen for _ in range(visits))
    part = "surrogate_trajectory" if replaced else "trajectory"
    keys = tuple(f"{part}/{i}/{k}" for i in range(count) for k in range(visits))
    point = Point(path["x_t"].flatten(0, 1), path["t"].repeat(count), _encoded(model, [p.prompt for p in rows]).to("cpu"), keys)
    given = _encoded(model, [prompt for prompt in sampled for _ in range(visits)]).keys if replaced else point.cond.keys
    references.put(list(zip(keys, given, strict=True)), path["given"].flatten(0, 1))
    if "without" in path:  # a sampler without guidance asks for the prompt alone
        references.put([(k, model.null().keys[0]) for k in keys], path["without"].flatten(0, 1))
    references.take()  # they are in the store: no checkpoint needs to hold them
    if replaced:
        return _bank(point, rows, tuple(marginal for marginal in drawn for _ in range(visits)), seed_of(seed, part))
    return _bank(point, rows, _drawn(rows, torch.Generator().manual_seed(seed_of(seed, "marginal"))), seed)


def _bank(points: Point | Noised, rows: tuple[ForgetPrompt, ...], marginals: tuple[str, ...], seed: int) -> Bank:
    # A stream of their own: siblings came later, and runs that do not ask for them are to stay the same.
    chance = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed_of(seed, "sibling"))).tolist()
    drawn = zip(rows, chance, marginals, strict=True)
    return Bank(points, rows, marginals, tuple(p.siblings[int(c * len(p.siblings))] if p.siblings else m for p, c, m in drawn))


def _drawn(rows: Sequence[ForgetPrompt], generator: torch.Generator) -> tuple[str, ...]:
    chance = torch.rand(len(rows), generator=generator).tolist()
    return tuple(p.marginals[int(c * len(p.marginals))] if p.marginals else p.context for p, c in zip(rows, chance, strict=True))


def _stored(cache: Store, key: str, shows: Sequence[str], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    if (found := cache.get(key)) is None:
        found = make()
        cache.put(key, found, shows)
    return found


def _encoded(model: DiffusionModel, prompts: Sequence[str]) -> Cond:
    """The prompts' rows, each distinct one once in memory."""
    rows = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    return Repeated(model.encode(list(rows)), [rows[prompt] for prompt in prompts])


def _latents(session: Session, prompts: list[str], seeds: list[int], sampler: Sampler, title: str) -> Latents:
    model, cond, parts = session.model, _encoded(session.model, prompts), []
    for part in Renderer(session, RENDER_BATCH).parts(len(prompts), title):
        parts.append(model.sample_latents(cond[part], seeds[part], sampler).cpu())
    return torch.cat(parts)


def _trajectories(session: Session, prompts: list[str], seeds: list[int], sampler: Sampler) -> dict[str, Tensor]:
    model, cond, walks = session.model, _encoded(session.model, prompts), []
    for part in Renderer(session, RENDER_BATCH).parts(len(prompts), "trajectories of the concept"):
        walks.append([v for v in model.walk(cond[part], seeds[part], sampler) if isinstance(v, Visit)])
    stack = {
        name: torch.cat([torch.stack([getattr(v, name).cpu() for v in walk], dim=1) for walk in walks])
        for name in ("x_t", "given", *(["without"] if walks[0][0].without is not None else []))
    }
    return stack | {"t": torch.stack([v.t.cpu() for v in walks[0]])}
