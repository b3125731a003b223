"""PixArt-Sigma."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.family import side_of
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

LENGTH = 300
"""Tokens that T5 reads of a prompt, or fewer where its tokenizer allows fewer."""


class PixArtSigma(DiffusionModel):
    """A transformer over image tokens that reads T5's rows by cross-attention. It predicts the noise, and a variance that is dropped."""

    family = "pixart-sigma"
    pipeline_class = "PixArtSigmaPipeline"
    network_class = "PixArtTransformer2DModel"
    network_part = "transformer"
    parts = (network_part, "vae", "text_encoder", "tokenizer", "scheduler")
    scopes: ClassVar = {
        "xattn-kv": r"\.attn2\.to_[kv]\.",
        "xattn-qk": r"\.attn2\.to_[qk]\.",
        "xattn": r"\.attn2\.",
        "entrance": r"\.attn2\.to_[kv]\.",
        "non-xattn": r"^(?!.*\.attn2\.)",
        "transformer": r"^transformer_blocks\.",
        "full": r"",
    }

    def check(self) -> None:
        if self.pipeline.transformer.config.use_additional_conditions:
            raise ExpungeError(
                f"The network of {self.name} reads the size of an image as a condition, as PixArt-Alpha's.",
                rule="unsupported-network",
                value=self.name,
                hint="Try a PixArt-Sigma model.",
            )

    @property
    def sampler(self) -> Sampler:
        return Sampler(20, 4.5)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        config = self.pipeline.transformer.config
        side = side_of(config.sample_size)
        return (config.in_channels, side, side)

    @property
    def readings(self) -> list[Reading]:
        return [replace(reading, length=min(reading.length, LENGTH)) for reading in super().readings]

    def write(self, tokenizer: Any, prompt: str) -> str:
        return prompt.lower().strip()

    def encode_rows(self, prompts: list[str]) -> Cond:
        [reading] = self.readings
        states, mask, _, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, device=self.device, max_sequence_length=reading.length
        )
        return Cond(states.float(), tuple(prompts), {"mask": mask})

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        out = network(
            x_t,
            encoder_hidden_states=cond.states,
            encoder_attention_mask=cond.extra["mask"],
            timestep=t,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return out[:, : x_t.shape[1]]
