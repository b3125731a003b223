"""Flux.1 dev, schnell, and their fine-tunes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.family import Guidance
from expunge.models.flow import even_sigmas, packed, shift, unpacked
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

LENGTH = 512
"""Tokens that T5 reads of a prompt, or fewer where its tokenizer allows fewer. All of them are read by the network, padding too."""
ENTRANCE = r"^context_embedder\.|\.text_embedder\.linear_1\."


class Flux1(DiffusionModel):
    """A transformer over text and image tokens that predicts a flow. It reads the rows of T5, and CLIP's pooled vector.

    Its single-stream blocks have one projection for words and image, which no scope of words holds. Dev reads its guidance as a number;
    schnell is distilled and has none.
    """

    family = "flux-1"
    pipeline_class = "FluxPipeline"
    network_class = "FluxTransformer2DModel"
    network_part = "transformer"
    text_encoder_parts = ("text_encoder", "text_encoder_2")
    tokenizer_parts = ("tokenizer", "tokenizer_2")
    parts = (network_part, "vae", *text_encoder_parts, *tokenizer_parts, "scheduler")
    scopes: ClassVar = {
        "xattn-kv": rf"\.attn\.add_[kv]_proj\.|{ENTRANCE}",
        "xattn": rf"\.attn\.(add_[qkv]_proj|to_add_out)\.|{ENTRANCE}",
        "entrance": ENTRANCE,
        "non-xattn": rf"^(?!.*\.attn\.(add_[qkv]_proj|to_add_out)\.|{ENTRANCE.replace('|', '|.*')[1:]})",
        "transformer": r"transformer_blocks\.",
        "full": r"",
    }
    reads_tokens = r"^context_embedder\.weight$"

    @property
    def guidance(self) -> Guidance:
        return "an input" if self.pipeline.transformer.config.guidance_embeds else "none"

    @property
    def is_distilled(self) -> bool:
        return self.guidance == "none"

    @property
    def sampler(self) -> Sampler:
        return Sampler(4, 1.0) if self.is_distilled else Sampler(28, 3.5)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = 2 * (self.pipeline.vae.config.sample_size // (2 * self.pipeline.vae_scale_factor))
        return (self.pipeline.transformer.config.in_channels // 4, side, side)

    @property
    def readings(self) -> list[Reading]:
        clip, t5 = super().readings
        return [replace(clip, has_rows=False), replace(t5, length=min(t5.length, LENGTH), has_rows=True)]

    def encode_rows(self, prompts: list[str]) -> Cond:
        length = self.readings[1].length
        states, pooled, _ = self.pipeline.encode_prompt(prompts, None, device=self.device, max_sequence_length=length)
        return Cond(states.float(), tuple(prompts), {"pooled": pooled.float()})

    def set_times(self, scheduler: Any, steps: int) -> None:
        _, height, width = self.latent_shape
        even_sigmas(scheduler, steps, shift(scheduler.config, height * width // 4), self.device)

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        rows, columns = (torch.arange(float(side // 2), device=x_t.device) for side in x_t.shape[2:])
        places = torch.cartesian_prod(rows.new_zeros(1), rows, columns)
        tokens = network(
            hidden_states=packed(x_t),
            timestep=t / 1000,
            guidance=self.guidance_input(cond),
            encoder_hidden_states=cond.states,
            pooled_projections=cond.extra["pooled"],
            txt_ids=x_t.new_zeros(cond.states.shape[1], 3),
            img_ids=places.to(x_t.dtype),
            return_dict=False,
        )[0]
        return unpacked(tokens, x_t.shape)
