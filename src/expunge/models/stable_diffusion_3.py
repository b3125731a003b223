"""Stable Diffusion 3 and 3.5."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.family import side_of
from expunge.models.flow import shift
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

LENGTH = 256
"""The number of tokens that T5 reads, or fewer where its tokenizer allows fewer."""


class StableDiffusion3(DiffusionModel):
    """A transformer over image and text tokens that predicts a flow. It reads the rows of CLIP and T5, and a pooled vector of two CLIPs.

    `attn2`, where a network has it, is self-attention of the image.
    """

    family = "stable-diffusion-3"
    pipeline_class = "StableDiffusion3Pipeline"
    network_part = "transformer"
    network_class = "SD3Transformer2DModel"
    text_encoder_parts = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizer_parts = ("tokenizer", "tokenizer_2", "tokenizer_3")
    parts = (network_part, "vae", *text_encoder_parts, *tokenizer_parts, "scheduler")
    scopes: ClassVar = {
        "xattn-kv": r"\.attn\.add_[kv]_proj\.|^context_embedder\.|\.text_embedder\.linear_1\.",
        "xattn": r"\.attn\.(add_[qkv]_proj|to_add_out)\.|^context_embedder\.|\.text_embedder\.linear_1\.",
        "non-xattn": r"^(?!.*\.attn\.(add_[qkv]_proj|to_add_out)\.|context_embedder\.|.*\.text_embedder\.linear_1\.)",
        "entrance": r"^context_embedder\.|\.text_embedder\.linear_1\.",
        "transformer": r"^transformer_blocks\.",
        "full": r"",
    }
    reads_tokens = r"^context_embedder\.weight$"

    @property
    def sampler(self) -> Sampler:
        return Sampler(28, 7.0)

    def check(self) -> None:
        if self.pipeline.text_encoder_3 is None:
            raise ExpungeError(
                f"The pipeline of {self.name} was loaded without T5.",
                rule="missing-part",
                value="text_encoder_3",
                hint="Try to load it with text_encoder_3 and tokenizer_3.",
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.pipeline.transformer.config
        side = side_of(config.sample_size)
        return (config.in_channels, side, side)

    @property
    def readings(self) -> list[Reading]:
        clip, other, t5 = super().readings
        return [clip, other, replace(t5, length=min(t5.length, LENGTH), has_rows=True)]

    def encode_rows(self, prompts: list[str]) -> Cond:
        length = self.readings[-1].length
        states, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, None, None, device=self.device, do_classifier_free_guidance=False, max_sequence_length=length
        )
        return Cond(states.float(), tuple(prompts), {"pooled": pooled.float()})

    def set_times(self, scheduler: Any, steps: int) -> None:
        config = scheduler.config
        if not config.use_dynamic_shifting:
            return super().set_times(scheduler, steps)
        tokens = (self.latent_shape[1] // self.pipeline.transformer.config.patch_size) ** 2
        return scheduler.set_timesteps(steps, device=self.device, mu=shift(config, tokens))

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        return network(
            hidden_states=x_t,
            timestep=t,
            encoder_hidden_states=cond.states,
            pooled_projections=cond.extra["pooled"],
            return_dict=False,
        )[0]
