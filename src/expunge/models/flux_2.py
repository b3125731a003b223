"""Flux.2: dev, and klein, base and distilled."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.family import Guidance
from expunge.models.flow import even_sigmas
from expunge.models.prompts import Reading, in_chat
from expunge.models.sampling import Sampler


class Flux2Klein(DiffusionModel):
    """A transformer over text and image tokens that predicts a flow. It reads three layers of Qwen3, of padding too.

    Latents are patches of 2x2 places, [b, 4 c, h / 2, w / 2], whitened by the running statistics of the autoencoder's batch norm. The
    base model is guided by two predictions; the distilled one takes no guidance.
    """

    family = "flux-2"
    pipeline_class = "Flux2KleinPipeline"
    network_class = "Flux2Transformer2DModel"
    network_part = "transformer"
    parts = (network_part, "vae", "text_encoder", "tokenizer", "scheduler")
    scopes: ClassVar = {
        "xattn-kv": r"\.attn\.add_[kv]_proj\.|^context_embedder\.",
        "xattn": r"\.attn\.(add_[qkv]_proj|to_add_out)\.|^context_embedder\.",
        "entrance": r"^context_embedder\.",
        "non-xattn": r"^(?!.*\.attn\.(add_[qkv]_proj|to_add_out)\.|context_embedder\.)",
        "transformer": r"transformer_blocks\.",
        "full": r"",
    }
    reads_tokens = r"^context_embedder\.weight$"

    @property
    def guidance(self) -> Guidance:
        if self.pipeline.transformer.config.guidance_embeds:
            return "an input"
        return "none" if self.is_distilled else "two predictions"

    @property
    def is_distilled(self) -> bool:
        return bool(self.pipeline.config.get("is_distilled"))

    @property
    def sampler(self) -> Sampler:
        return Sampler(4, 1.0) if self.is_distilled else Sampler(50, 4.0)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.pipeline.vae.config.sample_size // (2 * self.pipeline.vae_scale_factor)
        return (self.pipeline.transformer.config.in_channels, side, side)

    @property
    def size(self) -> int:
        return 2 * super().size

    @property
    def readings(self) -> list[Reading]:
        return [replace(reading, length=self.pipeline.tokenizer_max_length).within(self.written) for reading in super().readings]

    def written(self, prompt: str) -> str:
        """The text that the language model's tokenizer gets."""
        return in_chat(self.pipeline.tokenizer, prompt, enable_thinking=False)

    def encode_rows(self, prompts: list[str]) -> Cond:
        length = self.pipeline.tokenizer_max_length
        states, _ = self.pipeline.encode_prompt(list(prompts), device=self.device, max_sequence_length=length)
        return Cond(states.float(), tuple(prompts))

    def set_times(self, scheduler: Any, steps: int) -> None:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        _, height, width = self.latent_shape
        even_sigmas(scheduler, steps, compute_empirical_mu(height * width, steps), self.device)

    def to_autoencoder(self, latents: Latents) -> Tensor:
        mean, scale = self._statistics(latents)
        return torch.nn.functional.pixel_shuffle(latents * scale + mean, 2)

    def from_autoencoder(self, encoded: Tensor) -> Latents:
        mean, scale = self._statistics(encoded)
        return (torch.nn.functional.pixel_unshuffle(encoded, 2) - mean) / scale

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        vae = self.pipeline.vae
        scale = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
        return vae.bn.running_mean.to(like).view(1, -1, 1, 1), scale.to(like).view(1, -1, 1, 1)

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        tokens = network(
            hidden_states=x_t.flatten(2).mT,
            timestep=t / 1000,
            guidance=self.guidance_input(cond),
            encoder_hidden_states=cond.states,
            txt_ids=self._places(x_t, 1, 1, cond.states.shape[1]),
            img_ids=self._places(x_t, *x_t.shape[2:], 1),
            return_dict=False,
        )[0]
        return tokens.mT.reshape(x_t.shape)

    def _places(self, like: Tensor, *sizes: int) -> Tensor:
        """The place of each token along four axes: image, row, column, word."""
        axes = (torch.arange(size, device=like.device) for size in (1, *sizes))
        return torch.cartesian_prod(*axes).expand(len(like), -1, -1)


class Flux2Dev(Flux2Klein):
    """The same network, larger, which reads three layers of Mistral and its guidance as a number."""

    pipeline_class = "Flux2Pipeline"

    def written(self, prompt: str) -> str:
        from diffusers.pipelines.flux2.pipeline_flux2 import SYSTEM_MESSAGE, format_input

        [messages] = format_input([prompt], SYSTEM_MESSAGE)
        return self.pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
