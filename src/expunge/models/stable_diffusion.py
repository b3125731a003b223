"""Stable Diffusion 1.x and 2.x, and every pipeline of the same parts (the embedded canvas among them)."""

from collections.abc import Callable
from typing import Any, ClassVar

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.family import side_of


class StableDiffusion(DiffusionModel):
    """A U-Net that reads one text encoder's states through cross-attention. It predicts the noise, v or x_0."""

    family = "stable-diffusion"
    pipeline_class = "StableDiffusionPipeline"
    parts: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    network_part = "unet"
    network_class = "UNet2DConditionModel"
    scopes: ClassVar = {
        "xattn-kv": r"\.attn2\.to_[kv]\.",
        "entrance": r"\.attn2\.to_[kv]\.",
        "xattn-qk": r"\.attn2\.to_[qk]\.",
        "xattn": r"\.attn2\.",
        "non-xattn": r"^(?!.*\.attn2\.)",
        "transformer": r"\.transformer_blocks\.",
        "full": r"",
    }
    reads_tokens = r"\.attn2\.to_[kv]\.weight$"
    has_attention_maps = True
    reads_encoder_alone = True

    def check(self) -> None:
        unet, width = self.pipeline.unet.config, self.pipeline.text_encoder.config.hidden_size
        odd = {
            f"takes {unet.in_channels} channels and returns {unet.out_channels}, as for inpainting": unet.in_channels != unet.out_channels,
            "takes more conditions than a prompt, as SDXL": unet.addition_embed_type is not None or unet.class_embed_type is not None,
            "takes the guidance scale as an input, as latent consistency models": unet.time_cond_proj_dim is not None,
            f"reads prompts of width {unet.cross_attention_dim}, the text encoder has {width}": unet.cross_attention_dim != width,
        }
        if found := [what for what, is_so in odd.items() if is_so]:
            raise ExpungeError(
                f"The network of {self.name} {found[0]}. It is not that of Stable Diffusion 1.x or 2.x for text to image.",
                rule="unsupported-network",
                value=self.name,
                hint="Try another model.",
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        unet = self.pipeline.unet.config
        side = side_of(unet.sample_size)
        return (unet.in_channels, side, side)

    def encode_rows(self, prompts: list[str]) -> Cond:
        return Cond(self.pipeline.encode_prompt(prompts, self.device, 1, False)[0].float(), tuple(prompts))

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        return network(x_t, t, cond.states, return_dict=False)[0]
