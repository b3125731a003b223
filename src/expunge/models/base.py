"""What every model family offers, and the machinery that they share. A family is one short class in a file of its own."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any, ClassVar, TypeAlias

import diffusers
import torch
from torch import Tensor, nn

from expunge.diffusion import schedule
from expunge.diffusion.types import Cond, Latents, Maps, Point, Spans, Times
from expunge.models import autoencoder
from expunge.models.attention import recorded
from expunge.models.autoencoder import Images
from expunge.models.defaults import Defaults, defaults_of
from expunge.models.precision import DTYPES
from expunge.models.prompts import check_words, fitting, spans
from expunge.models.quiet import DiffusionPipeline
from expunge.models.sampling import Sampler, Visit, walk
from expunge.models.scopes import Scope
from expunge.storage.hashing import digest
from expunge.storage.tensors import fingerprint

Pipeline: TypeAlias = DiffusionPipeline
"""What a model can be made of in memory."""

ENCODED = 64
"""Prompts that are encoded at once."""


def settings_of(part: Any) -> dict[str, Any]:
    """How a part of a pipeline is set up: its configuration, without what begins with an underscore, such as where it was loaded from."""
    return {k: v for k, v in part.config.items() if not k.startswith("_")}


class DiffusionModel(ABC):
    """A text-to-image diffusion model: an encoder of prompts, a network on a noise path, a sampler and an autoencoder.

    Methods, attacks and metrics see a model through this class alone. A family names the parts of its diffusers pipeline, encodes
    prompts, and calls its network; everything else is shared.
    """

    family: ClassVar[str]
    """The name of the family in a run's card."""
    pipeline_class: ClassVar[str]
    """The name of its pipeline for text to image in diffusers."""
    parts: ClassVar[tuple[str, ...]]
    """The parts of the pipeline that it needs."""
    network_part: ClassVar[str]
    """The part that is trained."""
    text_encoder_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizer_parts: ClassVar[tuple[str, ...]] = ("tokenizer",)
    sampler: ClassVar[Sampler] = Sampler()
    """How images are sampled where neither the user nor the model's own defaults say it."""

    def __init__(self, pipeline: Pipeline, name: str = "in memory"):
        self.pipeline, self.name = pipeline, name
        self.network: nn.Module = getattr(pipeline, self.network_part)
        self.alphas_cumprod: Tensor = pipeline.scheduler.alphas_cumprod
        self.prediction_type: str = pipeline.scheduler.config.prediction_type
        self.dtype: torch.dtype = getattr(pipeline, self.network_part).dtype
        """The network's as it was loaded; what is trained is held in float32 meanwhile."""
        self.check()
        self._autocast: Callable[[], AbstractContextManager] = nullcontext
        self._encoded: dict[str, Cond] = {}

    # --- what a family says of itself ----------------------------------------------------------------------------------

    def check(self) -> None:  # noqa: B027 - a family that has nothing to refuse need not say so
        """Refuses a pipeline that has the parts of this family and another kind of network.

        Raises:
            ExpungeError: the network cannot be called as this family calls it.
        """

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image's latents."""

    @abstractmethod
    def encode_rows(self, prompts: list[str]) -> Cond:
        """Encodes prompts that are known to fit, all of them in one call of each text encoder."""

    @abstractmethod
    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        """Calls the network, or what stands for it with other weights, as the family's pipeline calls it."""

    def null(self, count: int = 1) -> Cond:
        """The condition without a prompt, which classifier-free guidance moves away from."""
        return self.encode([""]).expand(count)

    # --- identity ------------------------------------------------------------------------------------------------------

    @property
    def defaults(self) -> Defaults:
        """What goes with this model where the user names nothing else."""
        return defaults_of(self.name)

    @property
    def default_sampler(self) -> Sampler:
        """The sampler that the model was measured with, else its family's."""
        return Sampler(*self.defaults.sampler) if self.defaults.sampler else self.sampler

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def precision(self) -> str:
        """`dtype` by the name that a run is given; what torch calls it, where no run can be in it."""
        return next((name for name, kind in DTYPES.items() if kind == self.dtype), str(self.dtype))

    @property
    def size(self) -> int:
        """Pixels along each side of an image."""
        return self.latent_shape[1] * self.pipeline.vae_scale_factor

    @property
    def scheduler_name(self) -> str:
        """The class of the scheduler that images are sampled with."""
        return type(self.pipeline.scheduler).__name__

    @property
    def fixed_parts(self) -> dict[str, nn.Module]:
        """The networks that no run changes: text encoders and autoencoder."""
        return {name: getattr(self.pipeline, name) for name in (*self.text_encoder_parts, "vae")}

    @cached_property
    def fingerprint(self) -> str:
        """Tells this base model from any other: its network, its text encoders and its noise schedule."""
        return digest(fingerprint(self.network, *(getattr(self.pipeline, name) for name in self.text_encoder_parts)), self.noising)

    @property
    def noising(self) -> dict[str, Any]:
        """The noise schedule, and what the network predicts under it."""
        config = self.pipeline.scheduler.config
        betas = {k: config.get(k) for k in ("beta_start", "beta_end", "beta_schedule", "prediction_type")}
        return betas | {k: config[k] for k in ("trained_betas", "rescale_betas_zero_snr") if config.get(k)}  # which few models have

    @property
    def rendering(self) -> dict[str, Any]:
        """What decides an image besides the weights, the prompt, the noise and the sampler: the scheduler, how the parts are set up, and
        the precision. Without the version of diffusers, which decides it too: a run is the same run under another."""
        held = str(self.dtype).removeprefix("torch.")
        mixed = self._autocast is not nullcontext and self.dtype != torch.float32
        vae = [self._vae_fingerprint, settings_of(self.pipeline.vae)]
        parts = {self.network_part: settings_of(self.network), "vae": vae, "words": self._words}
        scheduler = {"class": self.scheduler_name} | settings_of(self.pipeline.scheduler)
        return {"scheduler": scheduler, "dtype": f"{held}, mixed" if mixed else held, **parts}

    @property
    def rendered_by(self) -> dict[str, Any]:
        """`rendering`, and the program that samples: what an image is kept under."""
        return self.rendering | {"diffusers": diffusers.__version__}

    @cached_property
    def _vae_fingerprint(self) -> str:
        return fingerprint(self.pipeline.vae)

    @cached_property
    def _words(self) -> str:
        """Tells the tokenizers from any others."""
        tokenizers = [getattr(self.pipeline, name) for name in self.tokenizer_parts]
        return digest(*(part for t in tokenizers for part in (t.get_vocab(), t.model_max_length)))

    # --- prompts -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Cond:
        """Encodes prompts, each distinct one once.

        Raises:
            ExpungeError: a prompt has more tokens than the text encoder reads, or a word that it cannot read.
        """
        if new := [p for p in dict.fromkeys(prompts) if p not in self._encoded]:
            for prompt in new:
                self.check_words(prompt)
            for start in range(0, len(new), ENCODED):
                part = new[start : start + ENCODED]
                rows = self.encode_rows(part)
                self._encoded.update({prompt: rows[[i]] for i, prompt in enumerate(part)})
        return Cond.cat([self._encoded[p] for p in prompts])

    def tokens(self, prompts: list[str], names: tuple[str, ...]) -> Spans:
        """What each token of each prompt is: one of `names`, which every prompt holds, the end of the text, padding, or another."""
        return spans(self.pipeline.tokenizer, prompts, names).to(self.device)

    def check_words(self, prompt: str) -> None:
        """Refuses a prompt that `encode` would refuse, without encoding it.

        Raises:
            ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
        """
        check_words(self.pipeline.tokenizer, prompt)

    def fitting(self, caption: str) -> str:
        """The longest beginning of a caption, in whole words, that the text encoder has room for."""
        return fitting(self.pipeline.tokenizer, caption)

    # --- the network ---------------------------------------------------------------------------------------------------

    def scope(self, scope: Scope) -> dict[str, nn.Parameter]:
        """The network's parameters in a scope, by name, in the network's order.

        Raises:
            ExpungeError: the scope matches none of them.
        """
        return scope.parameters(self.network)

    @contextmanager
    def mixed(self, autocast: Callable[[], AbstractContextManager]) -> Iterator[None]:
        """Calls the network in `autocast()` for as long as this lasts: trained tensors are in float32, whatever the others are in."""
        before, self._autocast = self._autocast, autocast
        try:
            yield
        finally:
            self._autocast = before

    @contextmanager
    def as_trained(self, recomputes: bool) -> Iterator[None]:
        """The network without dropout, which would make the reference a noisy one, and with gradient checkpointing only where it is
        asked for; afterwards it is as it was."""
        net: Any = self.network
        before = net.training, net.is_gradient_checkpointing

        def switch(mode: bool, recomputes: bool) -> None:
            net.train(mode)
            (net.enable_gradient_checkpointing if recomputes else net.disable_gradient_checkpointing)()

        switch(recomputes, recomputes)  # older versions of diffusers compute again in the mode for training alone
        try:
            yield
        finally:
            switch(*before)

    def predict(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Latents:
        """The network's prediction at a point under the present weights, or with `weights` in the place of some; in float32."""
        dtype = next(self.network.parameters()).dtype if self._autocast is nullcontext else point.x_t.dtype
        return self.to_eps(self.run(point.x_t.to(dtype), point.t, point.cond, weights), point.x_t, point.t)

    def run(self, x_t: Latents, t: Times, cond: Cond, weights: Mapping[str, Tensor] | None = None) -> Latents:
        """One call of the network in the dtype of `x_t`, or as autocast has it; float32 comes back."""
        network = self.network if weights is None else partial(_called_with, self.network, dict(weights))
        with self._autocast():
            return self.call(network, x_t, t, cond.to(dtype=x_t.dtype)).float()

    def attention(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Maps:
        """What each pixel attends to on the way to that prediction: a map for each layer of cross-attention, with gradient."""
        with recorded(self.network) as maps:
            self.predict(point, weights)
        return maps

    def to_eps(self, prediction: Latents, x_t: Latents, t: Tensor) -> Latents:
        return schedule.to_eps(prediction, x_t, t, self.alphas_cumprod.to(x_t.device), self.prediction_type)

    # --- sampling ------------------------------------------------------------------------------------------------------

    def noise(self, seeds: list[int]) -> Latents:
        """An image's initial noise: a function of its seed alone, made on the CPU so that every device starts from the same."""
        rows = [torch.randn(1, *self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows).to(self.device)

    def walk(self, cond: Cond, seeds: list[int], sampler: Sampler) -> Iterator[Visit | Latents]:
        """Samples step by step: yields a `Visit` for each step and at last the clean latents.

        Both predictions that guidance needs come from one batched call.
        """
        is_guided = sampler.guidance_scale > 1
        both = Cond.cat([self.null(len(cond)), cond]) if is_guided else cond

        def predict(x_t: Latents, t: Tensor) -> tuple[Latents, Latents | None]:
            # Not around the whole loop: a context that spans a `yield` would hold in the caller's code too.
            with torch.no_grad():
                x_t = x_t.to(next(self.network.parameters()).dtype)
                out = self.run(torch.cat([x_t, x_t]) if is_guided else x_t, t.expand(len(both)), both)
            without, given = out.chunk(2) if is_guided else (None, out)
            return given, without

        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(sampler.steps, device=self.device)
        noise = self.noise(seeds)
        for visit in walk(scheduler, predict, noise, seeds, sampler):
            if isinstance(visit, Visit):
                said = (None if p is None else self.to_eps(p, visit.x_t, visit.t.expand(len(noise))) for p in (visit.given, visit.without))
                yield Visit(visit.x_t, visit.t, *said)  # type: ignore[arg-type]
            else:
                yield visit

    def sample_latents(self, cond: Cond, seeds: list[int], sampler: Sampler) -> Latents:
        """Clean latents of one image for each prompt and seed."""
        *_, clean = self.walk(cond, seeds, sampler)
        assert isinstance(clean, Tensor)
        return clean

    def sample(self, prompts: list[str], seeds: list[int], sampler: Sampler | None = None) -> Images:
        """One image for each prompt and seed, 8 bit, on the CPU."""
        return self.decode(self.sample_latents(self.encode(prompts), seeds, sampler or self.default_sampler))

    def decode(self, latents: Latents) -> Images:
        """Images of latents, 8 bit, on the CPU."""
        return autoencoder.decode(self.pipeline.vae, latents, self.size)

    def encode_images(self, images: Images) -> Latents:
        """The latents that `decode` turns back into these images, as nearly as the autoencoder can: its means, on the CPU."""
        return autoencoder.encode(self.pipeline.vae, images)


def _called_with(network: nn.Module, weights: dict[str, Tensor], *arguments: Any, **named: Any) -> Any:
    return torch.func.functional_call(network, weights, arguments, named)
