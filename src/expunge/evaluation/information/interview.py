"""The images, prompts and predictions from which the information of a concept's name is estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, MultipleOf
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.decomposition import gain
from expunge.diffusion.types import Cond, Latents, Noised
from expunge.evaluation.information.mutual_information import (
    EVERYWHERE,
    Axis,
    Estimate,
    Form,
    Range,
    Weights,
    points,
    predictions,
)
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.storage.cache import Store
from expunge.storage.hashing import digest, seed_of
from expunge.training.banks import RENDER_BATCH
from expunge.training.renderer import Renderer
from expunge.training.session import Session

CHUNK = 8
"""Images whose points are in memory at the same time."""
PILOT, PILOT_DRAWS = 16, 4
"""Images, and points of each, that locate the noise levels where prompts give most information."""


@dataclass(frozen=True)
class Meter:
    """The amount of measurement.

    Time is proportional to images times draws. Results of the base model are cached.
    """

    pictures: Annotated[int, Ge(4)] = 6
    """Images of each other concept. More narrow the intervals."""
    target_pictures: Annotated[int, Ge(8)] = 16
    """Images of the concept with partners, and half as many of it alone. More narrow the intervals."""
    draws: Annotated[int, Ge(2), MultipleOf(2)] = 16
    """Points on the noise path for each image. More reduce the error of each image; each costs two forwards of each model."""
    others: Annotated[int, Ge(1)] = 24
    """The largest number of siblings, of other members of its kind, and of concepts of other kinds, each spread evenly. The canvas has
    fewer."""
    maps: Annotated[int, Ge(0)] = 4
    """Images of the concept for which maps show where the information is."""
    map_draws: Annotated[int, Ge(2), MultipleOf(2)] = 48
    """Points on the noise path for each of these images. More reduce the noise of the maps."""
    guidance: Annotated[float, Ge(1)] = 1.0
    """Guidance of the images. At 1 they are samples of the model's own p(x | y), over which the information is a mean. Larger gives clearer
    images, and the mean over other images."""
    form: Form = "expected"
    """The estimator (see `mutual_information`). `orthogonal` counts any replacement of the concept as knowledge of it."""
    log_snr: Range | None = None
    """The least and the greatest logSNR of the noise levels; default all of the model's. Choose the range that two models share to compare
    their nats: (-5.3, 7.0) for Stable Diffusion beside a flow. Narrower leaves out what names tell at other noise levels."""
    seed: int = 0
    """The seed of images and points."""


@dataclass(frozen=True)
class Query:
    """An image, and the two prompts between which its information is measured."""

    concept: str
    template: str
    """The prompt with `{target}` in place of the concept: "a {target} in neon style"."""
    without: str
    """The prompt without the concept."""
    seed: int

    @property
    def prompt(self) -> str:
        """The prompt with the concept."""
        return self.prompt_with(self.concept)

    def prompt_with(self, name: str) -> str:
        """The prompt with another name in place of the concept."""
        return self.template.replace("{target}", name)


def make_queries(concept: Concept, count: int, seed: int, alone: bool = False) -> list[Query]:
    """`count` images of a concept, with its partners in turn, or alone.

    The order of the partners is a function of their names, so that most images stay the same when a partner is left out.
    """
    kind = concept.vocabulary.kinds[concept.kind]
    beside = concept.beside
    partners = () if alone else sorted(concept.partners, key=lambda m: digest("asked", concept.target, m.name))
    forms = [(kind.together.replace("{partner}", p.name), beside.replace("{target}", p.name)) for p in partners] or [(kind.alone, "")]
    queries = []
    for i in range(count):
        template, without = forms[i % len(forms)]
        queries.append(Query(concept.target, template, without, seed_of("asked", seed, concept.target, template, i // len(forms))))
    return queries


@dataclass(frozen=True)
class ModelPair:
    """The base model and the unlearned model, with predictions at the same points."""

    session: Session
    """Its model has the base model's weights."""
    delta: Mapping[str, Tensor]
    """The changed weights of the unlearned model."""
    vocabulary: Vocabulary
    meter: Meter

    @property
    def model(self) -> DiffusionModel:
        return self.session.model

    @cached_property
    def axis(self) -> Axis:
        """The noise path, sampled where the base model's prompts give most information. It is a function of model and vocabulary."""
        members = [(kind, m) for kind in self.vocabulary.kinds.values() if kind.harmless for m in kind.members]
        spread = [members[i * len(members) // PILOT] for i in range(PILOT)] if len(members) > PILOT else members
        queries = [a for kind, m in spread for a in make_queries(Concept(m.name, kind.name, self.vocabulary), 1, self.meter.seed)]
        within = self.meter.log_snr or EVERYWHERE
        even = Axis.of(self.model.path, within=within)
        key = digest("fitted", self._cache_key, [(a.prompt, a.without, a.seed) for a in queries], PILOT_DRAWS, *within)
        if (kept := self.session.cache.get(key)) is None:
            x, weights = self.points(queries, even, PILOT_DRAWS)
            given, without = self.predict(x, queries)
            gained = gain(given, without, given).sum((1, 2, 3)).cpu() * weights.flatten()
            kept = {"loc_scale": torch.tensor(even.fit_logistic(even.log_snr[torch.searchsorted(even.t, x.t.cpu())], gained))}
            self.session.cache.put(key, kept, shows=())
        loc, scale = kept["loc_scale"].tolist()
        return Axis.of(self.model.path, loc, scale, within)

    @cached_property
    def _cache_key(self) -> list[object]:
        """The part of the cache keys that all results of the base model share."""
        made_by = self._renderer.key(__name__, "expunge.evaluation.information.mutual_information")
        return [self.model.fingerprint, made_by, self.sampler.steps, self.sampler.guidance_scale]

    @property
    def _renderer(self) -> Renderer:
        return Renderer(self.session, RENDER_BATCH)

    @property
    def sampler(self) -> Sampler:
        """The sampler of the images."""
        return Sampler(self.model.default_sampler.steps, self.meter.guidance)

    def pictures(self, queries: Sequence[Query]) -> Latents:
        """Clean latents by the base model, cached."""
        keys = [digest("asked picture", self._cache_key, a.prompt, a.seed) for a in queries]
        kept = _KeptLatents(self.session.cache, keys, [a.prompt for a in queries])

        def make(part: list[int]) -> Latents:
            cond = self.model.encode([queries[i].prompt for i in part])
            return self.model.sample_latents(cond, [queries[i].seed for i in part], self.sampler).cpu()

        self._renderer.keep(kept, make, "images of the base model")
        return torch.stack([kept.found[i] for i in range(len(queries))]).to(self.model.device)

    def points(self, queries: Sequence[Query], axis: Axis, draws: int) -> tuple[Noised, Weights]:
        """`draws` points of each image, under its prompt."""
        cond = self.model.encode([a.prompt for a in queries])
        seeds = [seed_of("points", a.seed) for a in queries]
        return points(self.pictures(queries), cond, axis, draws, seeds, self.model.path)

    def predict(self, x: Noised, queries: Sequence[Query]) -> tuple[Latents, Latents]:
        """The predictions of the current model at the points of each image, with and without the concept's name."""
        given = self.model.encode([a.prompt for a in queries])
        # Where nothing is left without the concept, it is the model's own condition without a prompt.
        without = Cond.cat([self.model.encode([a.without]) if a.without else self.model.null() for a in queries])
        return predictions(self.model.predict, x, given), predictions(self.model.predict, x, without)

    def predict_base(self, x: Noised, queries: Sequence[Query]) -> tuple[Latents, Latents]:
        """The predictions of the base model at the points of each image, cached."""
        draws = len(x) // len(queries)
        times = x.t.view(len(queries), draws).tolist()
        keys = [digest("predictions", self._cache_key, a.prompt, a.without, a.seed, t) for a, t in zip(queries, times, strict=True)]
        found = {i: kept for i, key in enumerate(keys) if (kept := self.session.cache.get(key))}
        if missing := [i for i in range(len(queries)) if i not in found]:
            rows = [i * draws + k for i in missing for k in range(draws)]
            part = x[rows]
            given, without = (e.unflatten(0, (len(missing), draws)).cpu() for e in self.predict(part, [queries[i] for i in missing]))
            for at, i in enumerate(missing):
                found[i] = {"given": given[at], "without": without[at]}
                self.session.cache.put(keys[i], found[i], shows=[queries[i].prompt])
        given, without = (torch.cat([found[i][name] for i in range(len(queries))]).to(x.x_t) for name in ("given", "without"))
        return given, without

    def estimate(self, queries: Sequence[Query]) -> tuple[Estimate, Estimate]:
        """The information of each image by the base model and by the unlearned model."""
        before, after = list[Estimate](), list[Estimate]()
        self.pictures(queries)  # rendered in full batches
        axis = self.axis
        for start in self.session.progress.track(range(0, len(queries), CHUNK), "predictions of both models"):
            part = queries[start : start + CHUNK]
            x, weights = self.points(part, axis, self.meter.draws)
            base = self.predict_base(x, part)
            before.append(self._estimate(x, weights, base, base))
            with swapped(self.model.network, self.delta):
                after.append(self._estimate(x, weights, self.predict(x, part), base))
        return _concatenate(before), _concatenate(after)

    def _estimate(self, x: Noised, weights: Weights, says: tuple[Latents, Latents], base_says: tuple[Latents, Latents]) -> Estimate:
        """The estimate from predictions with and without the concept's name."""
        given, without = says
        return Estimate.of(gain(self.noise(x, given, base_says[0]), without, given).sum((1, 2, 3)).view(weights.shape).cpu(), weights)

    def noise(self, x: Noised, says: Latents, maker_says: Latents) -> Latents:
        """What replaces the noise in the integrand: `says` is a model's prediction under a prompt, `maker_says` the base model's."""
        return {"standard": x.goal, "orthogonal": says, "expected": maker_says}[self.meter.form]


@dataclass(frozen=True)
class _KeptLatents:
    """Clean latents in the cache, by key. They are few."""

    cache: Store
    names: Sequence[str]
    prompts: Sequence[str]
    found: dict[int, Tensor] = field(default_factory=dict)

    def has(self, index: int) -> bool:
        if index not in self.found and (kept := self.cache.get(self.names[index])):
            self.found[index] = kept["x_0"]
        return index in self.found

    def put(self, index: int, image: Tensor) -> None:
        self.found[index] = image
        self.cache.put(self.names[index], {"x_0": image}, shows=[self.prompts[index]])


def _concatenate(parts: Sequence[Estimate]) -> Estimate:
    """Concatenate estimates."""
    return Estimate(torch.cat([p.nats for p in parts]), torch.cat([p.se for p in parts]))
