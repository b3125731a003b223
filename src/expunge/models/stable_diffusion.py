"""Stable Diffusion 1.x and 2.x, and every pipeline of the same parts (the embedded canvas among them)."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any, TypeAlias

import diffusers
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import UInt8
from torch import Tensor

from expunge.canvas import CANVAS
from expunge.diffusion import schedule
from expunge.diffusion.types import Cond, Latents, Maps, Point, Spans
from expunge.errors import ExpungeError
from expunge.models.attention import recorded, spans
from expunge.models.checks import check_family
from expunge.models.precision import DTYPES
from expunge.models.quiet import StableDiffusionPipeline
from expunge.models.sampling import Sampler, Visit
from expunge.storage.hashing import digest, seed_of
from expunge.storage.tensors import fingerprint

Pipeline: TypeAlias = StableDiffusionPipeline
"""What a denoiser can be made of in memory."""


CLOSED_VOCABULARY = 2000
"""Tokenizers with fewer entries are taken to hold whole words only."""

DECODED = 8 * 512**2
"""Pixels that are decoded at once: at its full size a picture takes the autoencoder far more memory than it took the network."""


def settings_of(part: Any) -> dict[str, Any]:
    """How a part of a pipeline is set up: its configuration, without what begins with an underscore, such as where it was loaded from."""
    return {k: v for k, v in part.config.items() if not k.startswith("_")}


class StableDiffusion:
    """A Stable Diffusion pipeline as a noise predictor, an encoder of prompts, and a sampler."""

    def __init__(self, pipeline: StableDiffusionPipeline, name: str = "in memory"):
        self.pipeline, self.name = pipeline, name
        self.net: UNet2DConditionModel = pipeline.unet
        self.alphas_cumprod: Tensor = pipeline.scheduler.alphas_cumprod
        self.prediction_type: str = pipeline.scheduler.config.prediction_type
        self.dtype: torch.dtype = pipeline.unet.dtype
        """The network's as it was loaded; what is trained is held in float32 meanwhile."""
        check_family(pipeline)
        self._autocast: Callable = nullcontext
        self._encoded: dict[str, Tensor] = {}

    @property
    def is_canvas(self) -> bool:
        return self.name == CANVAS

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def precision(self) -> str:
        """`dtype` by the name that a run is given; what torch calls it, where no run can be in it."""
        return next((name for name, kind in DTYPES.items() if kind == self.dtype), str(self.dtype))

    @property
    def default_sampler(self) -> Sampler:
        """The canvas was measured at 12 steps and guidance 3; other models get the field's 25 and 7.5."""
        return Sampler(12, 3.0) if self.is_canvas else Sampler()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        size = self.net.config.sample_size
        return (self.net.config.in_channels, size, size)

    @property
    def size(self) -> int:
        """Pixels along each side of a picture."""
        return self.net.config.sample_size * self.pipeline.vae_scale_factor

    @cached_property
    def fingerprint(self) -> str:
        """Tells this base model from any other: its U-Net, its text encoder and its noise schedule."""
        return digest(fingerprint(self.net, self.pipeline.text_encoder), self.noising)

    @property
    def noising(self) -> dict[str, Any]:
        """The noise schedule, and what the network predicts under it."""
        config = self.pipeline.scheduler.config
        betas = {k: config.get(k) for k in ("beta_start", "beta_end", "beta_schedule", "prediction_type")}
        return betas | {k: config[k] for k in ("trained_betas", "rescale_betas_zero_snr") if config.get(k)}  # which few models have

    @property
    def drawing(self) -> dict[str, Any]:
        """What decides a picture besides the weights, the prompt, the noise and the sampler: the scheduler, how the parts are set up, and
        the precision. Without the version of diffusers, which decides it too: a run is the same run under another."""
        held = str(self.dtype).removeprefix("torch.")
        mixed = self._autocast is not nullcontext and self.dtype != torch.float32
        parts = {"unet": settings_of(self.net), "vae": [self._vae_fingerprint, settings_of(self.pipeline.vae)], "words": self._words}
        scheduler = {"class": type(self.pipeline.scheduler).__name__} | settings_of(self.pipeline.scheduler)
        return {"scheduler": scheduler, "dtype": f"{held}, mixed" if mixed else held, **parts}

    @property
    def drawn_by(self) -> dict[str, Any]:
        """`drawing`, and the program that draws: what a picture is kept under."""
        return self.drawing | {"diffusers": diffusers.__version__}

    @cached_property
    def _vae_fingerprint(self) -> str:
        return fingerprint(self.pipeline.vae)

    @cached_property
    def _words(self) -> str:
        """Tells the tokenizer from any other."""
        tokenizer = self.pipeline.tokenizer
        return digest(tokenizer.get_vocab(), tokenizer.model_max_length)

    # --- prompts ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, prompts: list[str] | tuple[str, ...]) -> Cond:
        """Encodes prompts, each distinct one once.

        Raises:
            ExpungeError: a prompt has more tokens than the text encoder reads, or a word that it cannot read.
        """
        if new := [p for p in dict.fromkeys(prompts) if p not in self._encoded]:
            for prompt in new:
                self.check_words(prompt)
            for start in range(0, len(new), 64):
                part = new[start : start + 64]
                states, _ = self.pipeline.encode_prompt(part, self.device, 1, False)
                self._encoded.update(zip(part, states.float(), strict=True))
        return Cond(torch.stack([self._encoded[p] for p in prompts]), tuple(prompts))

    def spans(self, prompts: list[str], names: tuple[str, ...]) -> Spans:
        """What each token of each prompt is: one of `names`, which every prompt holds, the end of the text, padding, or another."""
        return spans(self.pipeline.tokenizer, prompts, names).to(self.device)

    def check_words(self, prompt: str) -> None:
        """Refuses a prompt that `encode` would refuse, without encoding it.

        Raises:
            ExpungeError: more tokens than the text encoder reads, or a word that it cannot read.
        """
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(ids) > tokenizer.model_max_length:
            raise ExpungeError(
                f"a prompt fits the text encoder's {tokenizer.model_max_length} tokens: {prompt!r} has {len(ids)}; shorten it"
            )
        tokens = tokenizer.convert_ids_to_tokens(ids[1:-1])
        words = [w.split() for w in " ".join(tokens).replace("</w>", "\n").splitlines()]
        # A vocabulary of words (the canvas) never splits one that it knows; one of pieces splits rare words, but into pieces.
        closed = tokenizer.vocab_size < CLOSED_VOCABULARY
        odd = [w for w in words if len(w) > (1 if closed else 2) and "".join(w).isalpha() and (closed or all(len(p) == 1 for p in w))]
        if tokenizer.unk_token_id in ids[1:-1] or odd:
            read = " ".join(odd[0]) if odd else tokenizer.unk_token
            raise ExpungeError(
                f"the tokenizer knows a concept's words: {prompt!r} holds one that is read as {read!r}; "
                "use a word that the model was trained on (see `expunge ls concepts`)"
            )

    # --- the network -----------------------------------------------------------------------------------------------

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
        net, before = self.net, (self.net.training, self.net.is_gradient_checkpointing)

        def switch(mode: bool, recomputes: bool) -> None:
            net.train(mode)
            (net.enable_gradient_checkpointing if recomputes else net.disable_gradient_checkpointing)()

        switch(recomputes, recomputes)  # older versions of diffusers compute again in the mode for training alone
        try:
            yield
        finally:
            switch(*before)

    def __call__(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Latents:
        """eps(x_t, t, c) under the present weights, or with `weights` in the place of some."""
        dtype = next(self.net.parameters()).dtype if self._autocast is nullcontext else point.x_t.dtype
        arguments = (point.x_t.to(dtype), point.t, point.cond.states.to(dtype))
        with self._autocast():
            out = self.net(*arguments).sample if weights is None else torch.func.functional_call(self.net, dict(weights), arguments).sample
        return self.to_eps(out.float(), point.x_t, point.t)

    def attention(self, point: Point, weights: Mapping[str, Tensor] | None = None) -> Maps:
        """What each pixel attends to on the way to that prediction: a map for each layer of cross-attention, with gradient."""
        with recorded(self.net) as maps:
            self(point, weights)
        return maps

    def to_eps(self, prediction: Latents, x_t: Latents, t: Tensor) -> Latents:
        return schedule.to_eps(prediction, x_t, t, self.alphas_cumprod.to(x_t.device), self.prediction_type)

    # --- sampling --------------------------------------------------------------------------------------------------

    def noise(self, seeds: list[int]) -> Latents:
        """A picture's starting noise: a function of its seed alone, drawn on the CPU so that every device starts from the same."""
        rows = [torch.randn(1, *self.latent_shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.cat(rows).to(self.device)

    def walk(self, cond: Cond, seeds: list[int], sampler: Sampler) -> Iterator[Visit | Latents]:
        """Samples step by step: yields a `Visit` for each step and at last the clean latents.

        Both predictions that guidance needs come from one batched call. A scheduler that draws noise on the way (Euler ancestral, DDPM)
        draws it for each picture from that picture's seed, so that two models are compared on the same noise there too.
        """
        scheduler, noise = copy.deepcopy(self.pipeline.scheduler), self.noise(seeds)
        drawn = {}
        if "generator" in inspect.signature(scheduler.step).parameters:
            drawn = {"generator": [torch.Generator().manual_seed(seed_of(seed, "on the way")) for seed in seeds]}
        scheduler.set_timesteps(sampler.steps, device=self.device)
        guided = sampler.guidance_scale > 1
        null = self.encode([""]).expand(len(cond)) if guided else None
        dtype = next(self.net.parameters()).dtype
        states = (torch.cat([null.states, cond.states]) if null is not None else cond.states).to(dtype)
        x = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x_in = scheduler.scale_model_input(x, t)
            # Not around the whole loop: a context that spans a `yield` would hold in the caller's code too.
            with torch.no_grad(), self._autocast():
                out = self.net((torch.cat([x_in, x_in]) if guided else x_in).to(dtype), t, states).sample.float()
            whole = t.round().long()
            times = whole.expand(len(x))
            if guided:
                without, given = out.chunk(2)
                yield Visit(x_in, whole, self.to_eps(given, x_in, times), self.to_eps(without, x_in, times))
                out = without + sampler.guidance_scale * (given - without)
            else:
                yield Visit(x_in, whole, self.to_eps(out, x_in, times), None)
            x = scheduler.step(out, t, x, return_dict=False, **drawn)[0]
        yield x

    def latents(self, cond: Cond, seeds: list[int], sampler: Sampler) -> Latents:
        """Clean latents of one picture for each prompt and seed."""
        *_, clean = self.walk(cond, seeds, sampler)
        assert isinstance(clean, Tensor)
        return clean

    @torch.no_grad()
    def decode(self, latents: Latents) -> UInt8[Tensor, "b 3 height width"]:
        """Pictures, 8 bit, on the CPU."""
        vae = self.pipeline.vae
        shifted = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        parts = shifted.to(vae.dtype).split(max(1, DECODED // self.size**2))
        pictures = (vae.decode(part, return_dict=False)[0].float() for part in parts)
        return torch.cat([((part / 2 + 0.5).clamp(0, 1) * 255).round().to("cpu", torch.uint8) for part in pictures])

    @torch.no_grad()
    def encode_pictures(self, pictures: UInt8[Tensor, "b 3 height width"]) -> Latents:
        """The latents that `decode` makes pictures of again, as nearly as the autoencoder can: its means, on the CPU."""
        vae = self.pipeline.vae
        parts = ((part.to(self.device).float() / 127.5 - 1).to(vae.dtype) for part in pictures.split(8))
        latents = torch.cat([vae.encode(part).latent_dist.mean.float().cpu() for part in parts])
        return (latents - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor

    def sample(self, prompts: list[str], seeds: list[int], sampler: Sampler | None = None) -> UInt8[Tensor, "b 3 height width"]:
        """One picture for each prompt and seed."""
        return self.decode(self.latents(self.encode(prompts), seeds, sampler or self.default_sampler))
