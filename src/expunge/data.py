"""What a step looks at: a finite bank of points, and batches that are functions of (seed, step) alone.

A run's bank is made once, by the untouched model, from the concept's own prompts. Since a batch depends on nothing but the
seed and the step, resuming needs no state of a data loader.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge import schedule
from expunge.cache import Store, digest
from expunge.concept import Concept, ForgetPrompt
from expunge.denoiser import Sampler, StableDiffusion
from expunge.denoiser.stable_diffusion import Visit
from expunge.objective import Training
from expunge.types import Batch, Cond, Latents, Need, Noised, Point
from expunge.weights import Memo

Track = Callable[[Sequence[int], str], Iterator[int]]
"""Shows the progress of a loop: rich's `track`, or `untracked`."""

RENDER_BATCH = 32


def untracked(items: Sequence[int], description: str) -> Iterator[int]:
    """No progress shown."""
    return iter(items)


def seed_of(*parts: object) -> int:
    """A seed that is a function of `parts`: streams of different names are independent."""
    return int(digest(*parts)[:15], 16)


def picks(seed: int, step: int, size: int, batch: int) -> list[int]:
    """Indices of a step's batch: consecutive slices of a permutation for each epoch, so that every point is used equally often."""
    chosen: list[int] = []
    position = step * batch
    while len(chosen) < batch:
        epoch, place = divmod(position, size)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed_of(seed, "epoch", epoch)))
        part = order[place : place + batch - len(chosen)].tolist()
        chosen += part
        position += len(part)
    return chosen


@dataclass(frozen=True)
class Bank:
    """The points of a run and, for each, the prompt that it belongs to."""

    points: Point | Noised
    prompts: tuple[ForgetPrompt, ...]
    """Row by row."""
    marginals: tuple[str, ...]
    """Row by row, one prompt drawn from `ForgetPrompt.marginals`: fixed for each point, so that its reference is computed once."""


def forget_bank(denoiser: StableDiffusion, concept: Concept, training: Training, seed: int, store: Store, track: Track) -> Bank:
    """Pictures of the concept by the untouched model, noised at times spread evenly over the path."""
    prompts = concept.forget()
    chosen = [prompts[i % len(prompts)] for i in range(training.pictures)]
    sampler = denoiser.default_sampler
    seeds = [seed_of(seed, "picture", i) for i in range(len(chosen))]
    key = digest("forget-latents", denoiser.fingerprint, [p.prompt for p in chosen], seeds, sampler.steps, sampler.guidance_scale)
    clean = _stored(store, key, lambda: {"x_0": _latents(denoiser, [p.prompt for p in chosen], seeds, sampler, track)})["x_0"]

    generator = torch.Generator().manual_seed(seed_of(seed, "noise"))
    count, horizon = training.points, len(denoiser.alphas_cumprod)
    which = torch.arange(count) % len(chosen)
    strata = torch.randperm(count, generator=generator)
    t = ((strata + torch.rand(count, generator=generator)) / count * horizon).long()
    noise = torch.randn(count, *clean.shape[1:], generator=generator)
    x_t = schedule.add_noise(clean[which], noise, t, denoiser.alphas_cumprod.cpu())
    rows = tuple(chosen[i] for i in which.tolist())
    keys = tuple(f"forget/{i}" for i in range(count))
    point = Noised(x_t, t, denoiser.encode([p.prompt for p in rows]).to("cpu"), keys, noise)
    return Bank(point, rows, _drawn(rows, generator))


def trajectory_bank(
    denoiser: StableDiffusion, concept: Concept, training: Training, seed: int, store: Store, track: Track, memo: Memo
) -> Bank:
    """Points that the untouched model visits while it samples the concept under guidance.

    The two predictions that guidance needs at each point are the reference's outputs there, so they go into `memo` for free.
    """
    prompts = concept.forget()
    sampler = denoiser.default_sampler
    count = min(training.pictures, -(-training.points // sampler.steps))
    chosen = [prompts[i * len(prompts) // count % len(prompts)] for i in range(count)]
    seeds = [seed_of(seed, "trajectory", i) for i in range(count)]
    key = digest("trajectories", denoiser.fingerprint, [p.prompt for p in chosen], seeds, sampler.steps, sampler.guidance_scale)
    path = _stored(store, key, lambda: _trajectories(denoiser, [p.prompt for p in chosen], seeds, sampler, track))

    rows = tuple(p for p in chosen for _ in range(sampler.steps))
    keys = tuple(f"trajectory/{i}/{k}" for i in range(count) for k in range(sampler.steps))
    point = Point(path["x_t"].flatten(0, 1), path["t"].repeat(count), denoiser.encode([p.prompt for p in rows]).to("cpu"), keys)
    memo.put(list(zip(keys, point.cond.keys, strict=True)), path["eps_cond"].flatten(0, 1))
    memo.put([(k, "") for k in keys], path["eps_null"].flatten(0, 1))
    memo.take()  # known from the store: no checkpoint needs to hold them
    return Bank(point, rows, _drawn(rows, torch.Generator().manual_seed(seed_of(seed, "marginal"))))


def _drawn(rows: Sequence[ForgetPrompt], generator: torch.Generator) -> tuple[str, ...]:
    chance = torch.rand(len(rows), generator=generator).tolist()
    return tuple(p.marginals[int(c * len(p.marginals))] if p.marginals else p.context for p, c in zip(rows, chance, strict=True))


def _stored(store: Store, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    if (found := store.get(key)) is None:
        found = make()
        store.put(key, found)
    return found


def _latents(denoiser: StableDiffusion, prompts: list[str], seeds: list[int], sampler: Sampler, track: Track) -> Latents:
    starts = range(0, len(prompts), RENDER_BATCH)
    cond = denoiser.encode(prompts)
    parts = (slice(s, s + RENDER_BATCH) for s in track(starts, "pictures of the concept"))
    return torch.cat([denoiser.latents(cond[part], seeds[part], sampler).cpu() for part in parts])


def _trajectories(denoiser: StableDiffusion, prompts: list[str], seeds: list[int], sampler: Sampler, track: Track) -> dict[str, Tensor]:
    cond, walks = denoiser.encode(prompts), []
    for start in track(range(0, len(prompts), RENDER_BATCH), "trajectories of the concept"):
        part = slice(start, start + RENDER_BATCH)
        walks.append([v for v in denoiser.walk(cond[part], denoiser.noise(seeds[part]), sampler) if isinstance(v, Visit)])
    stack = {
        name: torch.cat([torch.stack([getattr(v, name).cpu() for v in walk], dim=1) for walk in walks])
        for name in ("x_t", "eps_cond", "eps_null")
    }
    return stack | {"t": torch.stack([v.t.cpu() for v in walks[0]])}


@dataclass(frozen=True)
class Batches:
    """`batches(step)`: the parts that a method declared, drawn from its bank."""

    denoiser: StableDiffusion
    concept: Concept
    needs: frozenset[Need]
    bank: Bank
    seed: int
    batch_size: int

    def __call__(self, step: int) -> Batch:
        return self.rows(step, picks(self.seed, step, len(self.bank.points), self.batch_size))

    def split(self, step: int, parts: int) -> list[Batch]:
        """The same batch in equal parts, for accumulation."""
        chosen = picks(self.seed, step, len(self.bank.points), self.batch_size)
        size = len(chosen) // parts
        return [self.rows(step, chosen[i : i + size]) for i in range(0, len(chosen), size)]

    def rows(self, step: int, at: list[int]) -> Batch:
        bank, device, encode = self.bank, self.denoiser.device, self.denoiser.encode
        prompts = [bank.prompts[i] for i in at]
        parts: dict[Need, Point | Cond] = {}
        for need in self.needs:
            match need:
                case "forget" | "trajectory":
                    parts[need] = _moved(bank.points, at, device)
                case "context":
                    parts[need] = encode([p.context for p in prompts])
                case "marginal":
                    parts[need] = encode([bank.marginals[i] for i in at])
                case "anchor":
                    parts[need] = encode([p.anchor for p in prompts])
        return Batch(step, encode(self.concept.bare), encode([""]), parts)


def _moved(points: Point | Noised, at: list[int], device: torch.device) -> Point | Noised:
    x_t, t, cond = points.x_t[at].to(device), points.t[at].to(device), points.cond[at].to(device)
    keys = tuple(points.keys[i] for i in at)
    return Noised(x_t, t, cond, keys, points.noise[at].to(device)) if isinstance(points, Noised) else Point(x_t, t, cond, keys)


def gather(
    denoiser: StableDiffusion,
    concept: Concept,
    needs: frozenset[Need],
    training: Training,
    seed: int,
    store: Store,
    memo: Memo,
    track: Track = untracked,
) -> Batches:
    """Makes the bank that `needs` ask for, and the batches over it."""
    bank = (
        trajectory_bank(denoiser, concept, training, seed, store, track, memo)
        if "trajectory" in needs
        else forget_bank(denoiser, concept, training, seed, store, track)
    )
    return Batches(denoiser, concept, needs, bank, seed, training.batch_size)
