"""Sana and Sana 1.5."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from expunge.diffusion.types import Cond, Latents, Times
from expunge.models.base import DiffusionModel
from expunge.models.family import side_of
from expunge.models.prompts import Reading
from expunge.models.sampling import Sampler

LENGTH = 300
"""Tokens that Gemma reads of a prompt."""


class Sana(DiffusionModel):
    """A linear-attention transformer over image tokens that reads Gemma's rows through cross-attention. It predicts a flow.

    An instruction is written before every prompt, as the pipeline does; the prompt of no words goes without it.
    """

    family = "sana"
    pipeline_class = "SanaPipeline"
    network_class = "SanaTransformer2DModel"
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
        self.pipeline.tokenizer.padding_side = "right"  # as the pipeline itself sets it once it encodes

    @cached_property
    def instruction(self) -> list[str]:
        """What the pipeline writes before a prompt."""
        return inspect.signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default

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
        # The pipeline keeps the first row, and drops those of the instruction but the last.
        [reading], before = super().readings, "\n".join(self.instruction)
        count = len(reading.tokenizer(before).input_ids)
        return [replace(reading, length=count + LENGTH - 2, before=before, dropped=(1, count - 1))]

    def write(self, tokenizer: Any, prompt: str) -> str:
        return prompt.lower().strip()

    def encode_rows(self, prompts: list[str]) -> Cond:
        told: list[str] = [p for p in prompts if p]
        plain: list[str] = [p for p in prompts if not p]
        rows = [self._rows(part, before) for part, before in ((told, self.instruction), (plain, None)) if part]
        both = Cond.cat(rows)
        return both[[both.keys.index(prompt) for prompt in prompts]]

    def _rows(self, prompts: list[str], instruction: list[str] | None) -> Cond:
        states, mask, _, _ = self.pipeline.encode_prompt(
            prompts, False, device=self.device, max_sequence_length=LENGTH, complex_human_instruction=instruction
        )
        return Cond(states.float(), tuple(prompts), {"mask": mask})

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        return network(
            x_t,
            encoder_hidden_states=cond.states,
            encoder_attention_mask=cond.extra["mask"],
            timestep=t * self.pipeline.transformer.config.timestep_scale,
            return_dict=False,
        )[0]
