"""Asks models what a concept's name tells of a picture: which pictures, which prompts, and what both models say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge, MultipleOf
from torch import Tensor

from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.diffusion.decomposition import gain
from expunge.diffusion.types import Cond, Latents, Noised
from expunge.evaluation.information.mutual_information import Axis, Estimate, Form, Weights, points, predictions
from expunge.models.base import DiffusionModel
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.storage.cache import Store
from expunge.storage.hashing import digest, seed_of
from expunge.training.banks import RENDER_BATCH, Track

CHUNK = 8
"""Pictures whose points are held in memory at a time."""
PILOT, PILOT_DRAWS = 16, 4
"""Pictures, and points of each, that tell where on the noise path prompts say most."""


@dataclass(frozen=True)
class Meter:
    """How much is measured. Time grows with pictures times draws; nothing of the untouched model is computed twice."""

    pictures: Annotated[int, Ge(4)] = 6
    """Pictures of each other concept. More narrow the intervals."""
    target_pictures: Annotated[int, Ge(8)] = 16
    """Pictures of the concept beside partners, and half as many of it alone."""
    draws: Annotated[int, Ge(2), MultipleOf(2)] = 16
    """Points on the noise path for each picture. More have a smaller error for each picture; each costs two forwards of each model."""
    others: Annotated[int, Ge(1)] = 24
    """At most so many siblings, others of its kind, and concepts of other kinds, spread evenly over them. The canvas has fewer."""
    maps: Annotated[int, Ge(0)] = 4
    """Pictures of the concept for which maps show where the information lies."""
    map_draws: Annotated[int, Ge(2), MultipleOf(2)] = 48
    """Points on the noise path for each of these. More make maps less noisy."""
    guidance: Annotated[float, Ge(1)] = 1.0
    """Guidance of the pictures. At 1 they are drawn from the model's own p(x | y), over which the information is a mean; larger makes
    clearer pictures, and a number that is a mean over other ones."""
    form: Form = "expected"
    """Which estimator of `mutual_information`. `orthogonal` takes whatever is drawn in the concept's place for knowledge of it."""
    seed: int = 0
    """Of pictures and points."""


@dataclass(frozen=True)
class Asked:
    """One picture, and the two prompts of which it is asked how much the one tells beyond the other."""

    concept: str
    template: str
    """A prompt with `{target}` in the concept's place: "a {target} in neon style"."""
    without: str
    """The same without the concept."""
    seed: int

    @property
    def prompt(self) -> str:
        return self.naming(self.concept)

    def naming(self, name: str) -> str:
        """The prompt with another name in the concept's place."""
        return self.template.replace("{target}", name)


def asked_of(concept: Concept, count: int, seed: int, alone: bool = False) -> list[Asked]:
    """`count` pictures of a concept, beside its partners in turn, or alone.

    Which partners come first is a function of their names, so that with another one left out most pictures stay the same.
    """
    kind = concept.vocabulary.kinds[concept.kind]
    beside = concept.vocabulary.kinds[kind.partner].alone
    partners = () if alone else sorted(concept.partners, key=lambda m: digest("asked", concept.target, m.name))
    forms = [(kind.together.replace("{partner}", p.name), beside.replace("{target}", p.name)) for p in partners] or [(kind.alone, "")]
    asked = []
    for i in range(count):
        template, without = forms[i % len(forms)]
        asked.append(Asked(concept.target, template, without, seed_of("asked", seed, concept.target, template, i // len(forms))))
    return asked


@dataclass(frozen=True)
class Interview:
    """Both models, asked of the same points: the untouched one, and the same with `delta` in it."""

    model: DiffusionModel
    """With the untouched model's weights."""
    delta: Mapping[str, Tensor]
    vocabulary: Vocabulary
    meter: Meter
    store: Store
    track: Track

    @cached_property
    def axis(self) -> Axis:
        """The noise path, drawn from where the untouched model's prompts say most: a function of model and vocabulary alone."""
        members = [(kind, m) for kind in self.vocabulary.kinds.values() if kind.harmless for m in kind.members]
        spread = [members[i * len(members) // PILOT] for i in range(PILOT)] if len(members) > PILOT else members
        asked = [a for kind, m in spread for a in asked_of(Concept(m.name, kind.name, self.vocabulary), 1, self.meter.seed)]
        even = Axis.of(self.model.path)
        key = digest("fitted", self._kept_of, [(a.prompt, a.without, a.seed) for a in asked], PILOT_DRAWS)
        if (kept := self.store.get(key)) is None:
            x, weights = self.points(asked, even, PILOT_DRAWS)
            given, without = self.says(x, asked)
            said = gain(given, without, given).sum((1, 2, 3)).cpu() * weights.flatten()
            kept = {"loc_scale": torch.tensor(even.fitted(even.log_snr[torch.searchsorted(even.t, x.t.cpu())], said))}
            self.store.put(key, kept)
        loc, scale = kept["loc_scale"].tolist()
        return Axis.of(self.model.path, loc, scale)

    @cached_property
    def _kept_of(self) -> list[object]:
        """What everything that is kept of the untouched model depends on, beside what it was asked."""
        return [self.model.fingerprint, self.model.rendered_by, self.sampler.steps, self.sampler.guidance_scale]

    @property
    def sampler(self) -> Sampler:
        """How the pictures are made."""
        return Sampler(self.model.default_sampler.steps, self.meter.guidance)

    def pictures(self, asked: Sequence[Asked]) -> Latents:
        """Clean latents by the untouched model, each made once."""
        keys = [digest("asked picture", self._kept_of, a.prompt, a.seed) for a in asked]
        found = {i: kept["x_0"] for i, key in enumerate(keys) if (kept := self.store.get(key))}
        missing = [i for i in range(len(asked)) if i not in found]
        for start in self.track(range(0, len(missing), RENDER_BATCH), "pictures of the base model") if missing else ():
            part = missing[start : start + RENDER_BATCH]
            cond = self.model.encode([asked[i].prompt for i in part])
            for i, x_0 in zip(part, self.model.sample_latents(cond, [asked[i].seed for i in part], self.sampler).cpu(), strict=True):
                found[i] = x_0
                self.store.put(keys[i], {"x_0": x_0})
        return torch.stack([found[i] for i in range(len(asked))]).to(self.model.device)

    def points(self, asked: Sequence[Asked], axis: Axis, draws: int) -> tuple[Noised, Weights]:
        """So many points of each picture, under its prompt."""
        cond = self.model.encode([a.prompt for a in asked])
        seeds = [seed_of("points", a.seed) for a in asked]
        return points(self.pictures(asked), cond, axis, draws, seeds, self.model.path)

    def says(self, x: Noised, asked: Sequence[Asked]) -> tuple[Latents, Latents]:
        """What the model that is in place predicts at the points of each picture, with the concept's name and without."""
        given, without = self.model.encode([a.prompt for a in asked]), self._without(asked)
        return predictions(self.model.predict, x, given), predictions(self.model.predict, x, without)

    def _without(self, asked: Sequence[Asked]) -> Cond:
        """The prompts without the concept. Where nothing is left, the model's own condition without a prompt."""
        rows = [self.model.encode([a.without]) if a.without else self.model.null() for a in asked]
        return Cond.cat(rows)

    def base_says(self, x: Noised, asked: Sequence[Asked]) -> tuple[Latents, Latents]:
        """The same of the untouched model, which is kept."""
        draws = len(x) // len(asked)
        times = x.t.view(len(asked), draws).tolist()
        keys = [digest("predictions", self._kept_of, a.prompt, a.without, a.seed, t) for a, t in zip(asked, times, strict=True)]
        found = {i: kept for i, key in enumerate(keys) if (kept := self.store.get(key))}
        if missing := [i for i in range(len(asked)) if i not in found]:
            rows = [i * draws + k for i in missing for k in range(draws)]
            part = x[rows]
            given, without = (e.unflatten(0, (len(missing), draws)).cpu() for e in self.says(part, [asked[i] for i in missing]))
            for at, i in enumerate(missing):
                found[i] = {"given": given[at], "without": without[at]}
                self.store.put(keys[i], found[i])
        given, without = (torch.cat([found[i][name] for i in range(len(asked))]).to(x.x_t) for name in ("given", "without"))
        return given, without

    def answers(self, asked: Sequence[Asked]) -> tuple[Estimate, Estimate]:
        """How many nats each model holds of each picture, the untouched one first."""
        before, after = list[Estimate](), list[Estimate]()
        self.pictures(asked)  # all at once
        axis = self.axis
        for start in self.track(range(0, len(asked), CHUNK), "what both models say of them"):
            part = asked[start : start + CHUNK]
            x, weights = self.points(part, axis, self.meter.draws)
            told = self.base_says(x, part)
            before.append(self._estimate(x, weights, told, told))
            with swapped(self.model.network, self.delta):
                after.append(self._estimate(x, weights, self.says(x, part), told))
        return _together(before), _together(after)

    def _estimate(self, x: Noised, weights: Weights, says: tuple[Latents, Latents], base_says: tuple[Latents, Latents]) -> Estimate:
        given, without = says
        return Estimate.of(gain(self.noise(x, given, base_says[0]), without, given).sum((1, 2, 3)).view(weights.shape).cpu(), weights)

    def noise(self, x: Noised, says: Latents, maker_says: Latents) -> Latents:
        """What predictions are compared with: `says` is a model's prediction under a prompt, `maker_says` that of the base model."""
        return {"standard": x.goal, "orthogonal": says, "expected": maker_says}[self.meter.form]


def _together(parts: Sequence[Estimate]) -> Estimate:
    return Estimate(torch.cat([p.nats for p in parts]), torch.cat([p.se for p in parts]))
