"""What every model family offers, and the machinery that they share. A family is one short class in a file of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.diffusion.noise_path import NoisePath
from expunge.diffusion.types import Cond, Latents, Maps, Point, Spans, Times
from expunge.errors import ExpungeError
from expunge.models import autoencoder, low_rank
from expunge.models.attention import no_attention_maps, recorded
from expunge.models.autoencoder import Images
from expunge.models.delta import called_with
from expunge.models.family import Family, Pipeline
from expunge.models.fingerprints import kept_fingerprint
from expunge.models.paths import path_of, settings_of_path
from expunge.models.precision import DTYPES
from expunge.models.prompts import check_words, fitting, spans
from expunge.models.recomputing import Under, as_trained
from expunge.models.resting import Resting
from expunge.models.sampling import Sampler, Start, Visit, timed, walk
from expunge.models.scopes import Scope, matching
from expunge.models.unusual import forward_of
from expunge.models.wrapped import unwrapped
from expunge.storage.hashing import digest
from expunge.storage.tensors import fingerprint

IN_MEMORY = "in memory"
"""The name of a pipeline that was given as an object."""

ENCODED = 64
"""Prompts that are encoded at once."""


def settings_of(part: Any) -> dict[str, Any]:
    """How a part of a pipeline is set up: its configuration, without what begins with an underscore, such as where it was loaded from."""
    return {k: v for k, v in part.config.items() if not k.startswith("_")}


class DiffusionModel(Family):
    """A text-to-image diffusion model: an encoder of prompts, a network on a noise path, a sampler and an autoencoder.

    Methods, attacks and metrics see a model through this class alone. A family names the parts of its diffusers pipeline, encodes
    prompts, and calls its network; everything else is shared.

    Args:
        pipeline: of diffusers, which stays where it is.
        name: what a user named it by.
        files: what its network and its text encoders were loaded from, if nothing was changed since.
    """

    def __init__(self, pipeline: Pipeline, name: str = IN_MEMORY, files: Sequence[Path] = ()):
        self.pipeline, self.name, self.files = pipeline, name, files
        self.network = unwrapped(getattr(pipeline, self.network_part))
        self.path: NoisePath = path_of(pipeline.scheduler)
        self.dtype: torch.dtype = getattr(pipeline, self.network_part).dtype
        """The network's. Trained tensors are in float32 meanwhile."""
        self.loaded_dtype = self.dtype
        self.check()
        self.vae_files: Sequence[Path] = ()
        """What its autoencoder was loaded from."""
        self.hash_files: Callable[[], str] | None = None
        """Computes the fingerprint of the weights as their files have them, where loading rounded them."""
        self.quantization: str | None = None
        """How the network's linear layers are stored, if otherwise than in `dtype`."""
        self.exact: Mapping[str, Tensor] = {}
        """Their weights in `dtype`, on the CPU."""
        self.resting = Resting()
        """Where its text encoders wait. `load` lets them leave an accelerator; those of a pipeline in memory stay where they are."""
        self._autocast: Callable[[], AbstractContextManager] = nullcontext
        self._encoded: dict[str, Cond] = {}
        self._under: Under | None = None

    # --- identity ------------------------------------------------------------------------------------------------------

    @property
    def precision(self) -> str:
        """`loaded_dtype` by the name that a run is given; what torch calls it, where no run can be in it."""
        return next((name for name, kind in DTYPES.items() if kind == self.loaded_dtype), str(self.loaded_dtype))

    @property
    def scheduler_name(self) -> str:
        """The class of the scheduler that images are sampled with."""
        return type(self.pipeline.scheduler).__name__

    @property
    def fixed_parts(self) -> dict[str, nn.Module]:
        """The networks that no run changes: text encoders and autoencoder."""
        return {name: unwrapped(getattr(self.pipeline, name)) for name in (*self.text_encoder_parts, "vae") if name in self.parts}

    @cached_property
    def fingerprint(self) -> str:
        """Tells this base model from any other: its network, its text encoders and its noise path."""
        networks = self.network, *(self.fixed_parts[name] for name in self.text_encoder_parts)
        return digest(kept_fingerprint(self.files, self.hash_files or (lambda: fingerprint(*networks))), self.noising)

    @property
    def numbers(self) -> int:
        """How many numbers the network has."""
        return sum(self.exact.get(name, p).numel() for name, p in self.network.named_parameters())

    @property
    def whole(self) -> "DiffusionModel":
        """The model whose network's layers can be called. An outline that is made of what was kept has names and shapes alone."""
        return self

    @property
    def noising(self) -> dict[str, Any]:
        """The noise path, and what the network predicts on it."""
        return settings_of_path(self.pipeline.scheduler)

    @property
    def rendering(self) -> dict[str, Any]:
        """What decides an image besides the weights, the prompt, the noise and the sampler: the scheduler, how the parts are set up, and
        the precision. Without the version of diffusers, which decides it too: a run is the same run under another."""
        dtype = str(self.dtype).removeprefix("torch.")
        if self.dtype != self.loaded_dtype:  # the network alone was rounded, not the text encoders
            dtype = f"{dtype} from {str(self.loaded_dtype).removeprefix('torch.')}"
        mixed = self._autocast is not nullcontext and self.dtype != torch.float32
        vae = {"vae": [self._vae_fingerprint, settings_of(self.pipeline.vae)]} if "vae" in self.parts else {}
        parts = {self.network_part: settings_of(getattr(self.pipeline, self.network_part)), **vae, "words": self._words}
        scheduler = {"class": self.scheduler_name} | settings_of(self.pipeline.scheduler)
        forms = filter(None, (dtype, self.quantization, "mixed" if mixed else None))
        return {"scheduler": scheduler, "dtype": ", ".join(forms), **parts}

    @property
    def rendered_by(self) -> dict[str, Any]:
        """`rendering`, and the program that samples: what an image is kept under."""
        return self.rendering | {"diffusers": version("diffusers"), "forward": forward_of(self.network, self.fixed_parts)}

    @cached_property
    def _vae_fingerprint(self) -> str:
        return kept_fingerprint(self.vae_files, lambda: fingerprint(self.pipeline.vae), str(self.pipeline.vae.dtype))

    @cached_property
    def _words(self) -> str:
        """Tells the tokenizers from any others."""
        return digest(*(part for r in self.readings for part in (r.tokenizer.get_vocab(), r.tokenizer.model_max_length)))

    # --- prompts -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], as_tokenized: bool = False) -> Cond:
        """Encodes prompts, each distinct one once.

        Args:
            as_tokenized: whether to read words that the tokenizer takes apart, as those of prompts that a search found; then and later.

        Raises:
            ExpungeError: a prompt has more tokens than the text encoder reads, or a word that it cannot read.
        """
        if new := [p for p in dict.fromkeys(prompts) if p not in self._encoded]:
            self.check_words(*(() if as_tokenized else new))
            self.resting.wake()
            for start in range(0, len(new), ENCODED):
                part = new[start : start + ENCODED]
                rows = self.encode_rows(part)
                self._encoded.update({prompt: rows[[i]] for i, prompt in enumerate(part)})
        return Cond.cat([self._encoded[p] for p in prompts])

    @property
    def template(self) -> Cond:
        """A prompt of one row that has the shapes of any other."""
        self.resting.wake()
        return self.encode_rows(["a"])

    def tokens(self, prompts: list[str], names: tuple[str, ...]) -> Spans:
        """What each token of each prompt is: one of `names`, which every prompt holds, the end of the text, padding, or another."""
        return torch.cat([spans(reading, prompts, names) for reading in self.readings if reading.has_rows], 1).to(self.device)

    def check_words(self, *prompts: str) -> None:
        """Refuses a prompt that `encode` would refuse, without encoding it.

        Raises:
            ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
        """
        for prompt, reading in product(prompts, self.readings):  # for which some families write a template, here once
            check_words(reading, prompt)

    def fitting(self, caption: str) -> str:
        """The longest beginning of a caption, in whole words, that the text encoder has room for."""
        for reading in self.readings:
            caption = fitting(reading, caption)
        return caption

    # --- the network ---------------------------------------------------------------------------------------------------

    def scope(self, scope: Scope) -> dict[str, nn.Parameter]:
        """The network's parameters in a scope, by name, in the network's order; of quantised ones their exact values.

        Raises:
            ExpungeError: the family has no such scope, or it holds no parameter: an optimizer over nothing would train without complaint.
        """
        known = f"Try {', '.join(self.scopes)}."
        pattern = self.scopes.get(scope.of or scope.name) if scope.pattern is None else scope.pattern
        if pattern is None:
            raise ExpungeError(f"A {self.family} model has no scope {scope.name!r}.", rule="unknown-scope", value=scope.name, hint=known)
        if found := matching(self.network, pattern, scope.rank):
            return {name: nn.Parameter(self.exact[name], False) if name in self.exact else p for name, p in found.items()}
        raise ExpungeError(
            f"The scope {scope.name!r} ({pattern}) holds no parameter of {self.name}.", rule="empty-scope", value=scope.name, hint=known
        )

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
        with as_trained(self.network, recomputes, lambda: self._under):
            yield

    def predict(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Latents:
        """The network's prediction at a point, in its own units and in float32.

        Args:
            weights: values by name that take the place of the network's own; those called NAME.A and NAME.B are low-rank factors that
                are added to NAME.
        """
        dtype = self.computes_in if self._autocast is nullcontext else point.x_t.dtype
        return self.run(point.x_t.to(dtype), point.t, point.cond, weights)

    def run(self, x_t: Latents, t: Times, cond: Cond, weights: Mapping[str, Tensor] | None = None) -> Latents:
        """One call of the network in the dtype of `x_t`, or as autocast has it; float32 comes back."""
        self.resting.rest()
        whole, factors = low_rank.split(weights or {})
        network = partial(called_with, self.network, whole) if whole else self.network
        self._under = Under(self.network, whole, factors) if weights else None
        with self._autocast(), low_rank.added(self.network, factors):
            return self.call(network, x_t, t, cond.to(dtype=x_t.dtype)).float()

    def attention(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Maps:
        """What each pixel attends to on the way to that prediction: a map for each layer of cross-attention, with gradient.

        Raises:
            ExpungeError: the family's network has no such maps.
        """
        if not self.has_attention_maps:
            raise no_attention_maps(self.family)
        with recorded(self.network) as maps:
            self.predict(point, weights)
        return maps

    # --- sampling ------------------------------------------------------------------------------------------------------

    def noise(self, seeds: list[int]) -> Latents:
        """An image's initial noise: a function of its seed alone, made on the CPU so that every device starts from the same."""
        rows = [torch.randn(1, *self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows).to(self.device)

    def walk(
        self, cond: Cond, seeds: list[int], sampler: Sampler, start: Start | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[Visit | Latents]:
        """Samples step by step: yields a `Visit` for each step and at last the clean latents.

        Both predictions that guidance needs come from one batched call.

        Args:
            start: where sampling begins, if not from the noise of the seeds alone. Gradients go back to noise that requires them.
            weights: as for `predict`.

        Raises:
            ExpungeError: guidance of a distilled model that has none.
        """
        is_guided = self._is_guided(sampler)
        if self.guidance == "an input":
            cond = replace(cond, extra={**cond.extra, "guidance": torch.full((len(cond),), float(sampler.guidance_scale))}).to(self.device)
        both = Cond.cat([self.null(len(cond)), cond]) if is_guided else cond
        start = Start() if start is None else start.to(self.device)
        noise = self.noise(seeds) if start.noise is None else start.noise

        def predict(x_t: Latents, t: Tensor) -> tuple[Latents, Latents | None]:
            # Not around the whole loop: a context that spans a `yield` would hold in the caller's code too.
            with torch.set_grad_enabled(noise.requires_grad and torch.is_grad_enabled()):
                x_t = x_t.to(self.computes_in)
                out = self.run(torch.cat([x_t, x_t]) if is_guided else x_t, t.expand(len(both)), both, weights)
            without, given = out.chunk(2) if is_guided else (None, out)
            return given, without

        return walk(self.scheduler_for(sampler), predict, partial(self.guided, scale=sampler.guidance_scale), noise, seeds, start)

    def scheduler_for(self, sampler: Sampler) -> Any:
        """A scheduler of diffusers with the sampler's times, for one use."""
        return timed(self.pipeline.scheduler, self.set_times, sampler)

    def sample_latents(self, cond: Cond, seeds: list[int], sampler: Sampler, start: Start | None = None) -> Latents:
        """Clean latents of one image for each prompt and seed."""
        *_, clean = self.walk(cond, seeds, sampler, start)
        assert isinstance(clean, Tensor)
        return clean

    def sample(self, prompts: list[str], seeds: list[int], sampler: Sampler | None = None) -> Images:
        """One image for each prompt and seed, 8 bit, on the CPU."""
        return self.decode(self.sample_latents(self.encode(prompts), seeds, sampler or self.default_sampler))

    def decode(self, latents: Latents) -> Images:
        """Images of latents, 8 bit, on the CPU."""
        return autoencoder.decode(self.pipeline.vae, self.to_autoencoder(latents), self.size)

    def encode_images(self, images: Images) -> Latents:
        """The latents that `decode` turns back into these images, as nearly as the autoencoder can: its means, on the CPU."""
        return self.from_autoencoder(autoencoder.encode(self.pipeline.vae, images, self.encodes_videos))
