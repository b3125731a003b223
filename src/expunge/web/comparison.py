"""Images of a run beside those of its base model, at any strength of the erasure. One network is in memory."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from expunge.evaluation.rendering import RENDER_BATCH
from expunge.models.delta import swapped
from expunge.models.sampling import Sampler
from expunge.runs.run import Run
from expunge.training.batch_size import batch_of
from expunge.training.session import Session

STRONGEST = 1.5
"""The largest strength. Beyond it the weights are far from any that were trained."""

KEPT = 256
"""Images of the base model that are kept, so that another strength costs only the images of the run."""


@dataclass(frozen=True)
class Pair:
    """One noise, sampled by the base model and by the run."""

    seed: int
    base: Image.Image
    unlearned: Image.Image


@dataclass(frozen=True)
class Wish:
    """What is to be sampled."""

    prompt: str
    seed: Annotated[int, Ge(0)]
    """Seed of the first image's noise; the next images add 1 each."""
    images: Annotated[int, Ge(1), Le(64)]
    strength: Annotated[float, Ge(0), Le(STRONGEST)]
    """Factor of the run's change of the weights: 0 is the base model, 1 the run. Larger removes more and damages more."""
    sampler: Sampler


@dataclass
class Comparison:
    """A run and its base model, ready to sample."""

    session: Session
    delta: Mapping[str, Tensor]
    _base: OrderedDict[tuple[str, int, Sampler], Image.Image] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """One batch at a time: the weights of the one network are exchanged for it."""

    @classmethod
    def open(cls, run: Run, session: Session) -> "Comparison":
        """Reads the run's weights.

        Raises:
            ExpungeError: they belong to another base model, or the file is missing or broken.
        """
        return cls(session, run.delta(session.model.fingerprint))

    def draw(self, wish: Wish) -> Iterator[Pair]:
        """Samples both models from the same noise, a batch at a time.

        Raises:
            ExpungeError: a prompt that the model cannot read, or latents that are not finite.
        """
        model = self.session.model
        size = batch_of(model, self.session.cache, self.session.render_batch, RENDER_BATCH)
        seeds = [wish.seed + i for i in range(wish.images)]
        for start in range(0, len(seeds), size):
            part = seeds[start : start + size]
            with self._lock:
                base = self._sample_base(wish, part)
                unlearned = base if wish.strength == 0 else self._sample(wish, part, scaled(model.network, self.delta, wish.strength))
            yield from map(Pair, part, base, unlearned)

    def _sample_base(self, wish: Wish, seeds: Sequence[int]) -> list[Image.Image]:
        """The base model's images: those that are kept, and the others sampled."""
        keys = {seed: (wish.prompt, seed, wish.sampler) for seed in seeds}
        missing = [seed for seed in seeds if keys[seed] not in self._base]
        self._base |= zip((keys[s] for s in missing), self._sample(wish, missing, {}), strict=True) if missing else ()
        images = [self._base[key] for key in keys.values()]
        while len(self._base) > KEPT:
            self._base.popitem(last=False)
        return images

    def _sample(self, wish: Wish, seeds: Sequence[int], weights: Mapping[str, Tensor]) -> list[Image.Image]:
        model = self.session.model
        with swapped(model.network, weights):
            return list(map(_as_image, model.sample([wish.prompt] * len(seeds), list(seeds), wish.sampler)))


def scaled(network: nn.Module, delta: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
    """The weights W + strength · (W' − W), for the base model's weights W and the run's W'. At 1 they are W' to the bit."""
    if strength == 1:
        return dict(delta)
    parameters = dict(network.named_parameters())
    at = {name: parameters[name].data.float() for name in delta}
    return {name: at[name].lerp(value.to(at[name]), strength) for name, value in delta.items()}


def _as_image(pixels: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
