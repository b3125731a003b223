"""Z-Image and Z-Image Turbo."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.flow import even_sigmas, shift
from expunge.models.prompts import Reading, in_chat
from expunge.models.sampling import Sampler

LENGTH = 512
"""Tokens that the language model reads, its template's too."""


class ZImage(DiffusionModel):
    """A transformer over one stream of text and image tokens that predicts the negative of a flow. It reads Qwen3's last layer but one.

    Its layers have one projection for words and image. What words alone pass is the caption's embedder and its refiner, so `xattn-kv` and
    `xattn` are of these. The scale of guidance counts from 1 for none, where the pipeline counts from 0.
    """

    family = "z-image"
    pipeline_class = "ZImagePipeline"
    network_class = "ZImageTransformer2DModel"
    network_part = "transformer"
    parts = (network_part, "vae", "text_encoder", "tokenizer", "scheduler")
    scopes: ClassVar = {
        "xattn-kv": r"^context_refiner\.\d+\.attention\.to_[kv]\.|^cap_embedder\.1\.",
        "xattn": r"^context_refiner\.|^cap_embedder\.",
        "entrance": r"^cap_embedder\.1\.",
        "non-xattn": r"^(?!context_refiner\.|cap_embedder\.)",
        "transformer": r"^layers\.",
        "full": r"",
    }

    @property
    def sampler(self) -> Sampler:
        return Sampler(9, 1.0) if self.is_distilled else Sampler(50, 5.0)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = 2 * (self.pipeline.vae.config.sample_size // (2 * self.pipeline.vae_scale_factor))
        return (self.pipeline.transformer.in_channels, side, side)

    @property
    def readings(self) -> list[Reading]:
        return [replace(reading, length=LENGTH).within(self.written) for reading in super().readings]

    def written(self, prompt: str) -> str:
        """The text that the language model's tokenizer gets."""
        return in_chat(self.pipeline.tokenizer, prompt, enable_thinking=True)

    def encode_rows(self, prompts: list[str]) -> Cond:
        rows, _ = self.pipeline.encode_prompt(list(prompts), self.device, False, max_sequence_length=LENGTH)
        masks = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
        return Cond(pad_sequence(rows, batch_first=True).float(), tuple(prompts), {"mask": pad_sequence(masks, batch_first=True)})

    def set_times(self, scheduler: Any, steps: int) -> None:
        _, height, width = self.latent_shape
        even_sigmas(scheduler, steps, shift(scheduler.config, height * width // 4), self.device)

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        prompts = [states[:length] for states, length in zip(cond.states, cond.lengths, strict=True)]
        frames = list(x_t[:, :, None].unbind())
        return -torch.stack(network(frames, (1000 - t) / 1000, prompts, return_dict=False)[0])[:, :, 0]
