"""Qwen-Image."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.flow import even_sigmas, packed, shift, unpacked
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

LENGTH = 512
"""Tokens of a prompt that the language model reads. Fewer than the 1,024 that it could: states of prompts are kept in memory."""
SIZE = 1024
"""Pixels along each side of an image, where the autoencoder's configuration has no `sample_size`."""


class QwenImage(DiffusionModel):
    """A transformer over text and image tokens that predicts a flow. It reads the last layer of Qwen2.5-VL, which a mask ends.

    The guided prediction is scaled, patch by patch, to the length of the prediction with the prompt.
    """

    family = "qwen-image"
    pipeline_class = "QwenImagePipeline"
    network_class = "QwenImageTransformer2DModel"
    network_part = "transformer"
    parts = (network_part, "vae", "text_encoder", "tokenizer", "scheduler")
    scopes: ClassVar = {
        "xattn-kv": r"\.attn\.add_[kv]_proj\.|^txt_in\.",
        "xattn": r"\.attn\.(add_[qkv]_proj|to_add_out)\.|^txt_in\.",
        "entrance": r"^txt_in\.",
        "non-xattn": r"^(?!.*\.attn\.(add_[qkv]_proj|to_add_out)\.|txt_in\.)",
        "transformer": r"^transformer_blocks\.",
        "full": r"",
    }
    encodes_videos = True

    @property
    def sampler(self) -> Sampler:
        return Sampler(50, 4.0)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = 2 * (self.pipeline.vae.config.get("sample_size", SIZE) // (2 * self.pipeline.vae_scale_factor))
        return (self.pipeline.transformer.config.in_channels // 4, side, side)

    @property
    def readings(self) -> list[Reading]:
        # The network does not read the rows of the template's beginning. Its end, which follows the prompt, takes a part of the limit.
        first = self.pipeline.prompt_template_encode_start_idx
        return [replace(r, length=LENGTH + first, dropped=(0, first)).within(self.written) for r in super().readings]

    def written(self, prompt: str) -> str:
        """The text that the language model's tokenizer gets."""
        return self.pipeline.prompt_template_encode.format(prompt)

    def encode_rows(self, prompts: list[str]) -> Cond:
        states, mask = self.pipeline.encode_prompt(list(prompts), self.device, max_sequence_length=LENGTH)
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=self.device) if mask is None else mask
        return Cond(states.float(), tuple(prompts), {"mask": mask})

    def set_times(self, scheduler: Any, steps: int) -> None:
        _, height, width = self.latent_shape
        even_sigmas(scheduler, steps, shift(scheduler.config, height * width // 4), self.device)

    def guided(self, given: Latents, without: Latents, scale: float) -> Latents:
        one, both = packed(given), packed(super().guided(given, without, scale))
        size = both.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(both.dtype).tiny)
        return unpacked(both * (one.norm(dim=-1, keepdim=True) / size), given.shape)

    def to_autoencoder(self, latents: Latents) -> Tensor:
        mean, scale = self._statistics(latents)
        return (latents * scale + mean)[:, :, None]

    def from_autoencoder(self, encoded: Tensor) -> Latents:
        mean, scale = self._statistics(encoded)
        return (encoded[:, :, 0] - mean) / scale

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.pipeline.vae.config
        mean, scale = (like.new_tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean, scale

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        lengths = cond.lengths
        is_padded, longest = min(lengths) < max(lengths), max(lengths)
        tokens = network(
            hidden_states=packed(x_t),
            timestep=t / 1000,
            encoder_hidden_states=cond.states[:, :longest],
            encoder_hidden_states_mask=cond.extra["mask"][:, :longest] if is_padded else None,
            img_shapes=[[(1, x_t.shape[2] // 2, x_t.shape[3] // 2)]] * len(x_t),
            return_dict=False,
        )[0]
        return unpacked(tokens, x_t.shape)
