"""Stable Diffusion XL and its fine-tunes."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from expunge.diffusion.types import Cond, Latents, Times
from expunge.errors import ExpungeError
from expunge.models.sampling import Sampler
from expunge.models.stable_diffusion import StableDiffusion


class StableDiffusionXL(StableDiffusion):
    """A U-Net that reads the joined states of two CLIPs through cross-attention, and the pooled vector of the second. It predicts the noise
    or v.

    The empty prompt is the condition without a prompt. In most models (`force_zeros_for_empty_prompt`) this is zeros, as the pipeline has
    it where no negative prompt is given. Images are made as if they had been neither cropped nor scaled.
    """

    family = "stable-diffusion-xl"
    pipeline_class = "StableDiffusionXLPipeline"
    text_encoder_parts = ("text_encoder", "text_encoder_2")
    tokenizer_parts = ("tokenizer", "tokenizer_2")
    parts = ("unet", "vae", *text_encoder_parts, *tokenizer_parts, "scheduler")
    scopes: ClassVar = dict(StableDiffusion.scopes) | {"entrance": r"\.attn2\.to_[kv]\.|^add_embedding\.linear_1\."}

    def check(self) -> None:
        refuse_refiner(self.pipeline.config, self.name)
        unet, encoders = self.pipeline.unet.config, [getattr(self.pipeline, part) for part in self.text_encoder_parts]
        odd = {
            f"takes {unet.in_channels} channels and returns {unet.out_channels}, as for inpainting": unet.in_channels != unet.out_channels,
            "takes the guidance scale as an input, as latent consistency models": unet.time_cond_proj_dim is not None,
            f"reads further conditions as {unet.addition_embed_type!r}": unet.addition_embed_type != "text_time",
            "comes without one of its text encoders": None in encoders,
        }
        if found := [what for what, is_so in odd.items() if is_so]:
            raise ExpungeError(
                f"The network of {self.name} {found[0]}. It is not that of Stable Diffusion XL for text to image.",
                rule="unsupported-network",
                value=self.name,
                hint="Try another model.",
            )

    @property
    def sampler(self) -> Sampler:
        return Sampler(1, 1.0) if self.is_distilled else Sampler(30, 5.0)

    def encode_rows(self, prompts: list[str]) -> Cond:
        states, _, pooled, _ = self.pipeline.encode_prompt(prompts, device=self.device, do_classifier_free_guidance=False)
        if self.pipeline.config.force_zeros_for_empty_prompt:
            words = torch.tensor([bool(prompt) for prompt in prompts], device=states.device)
            states, pooled = states * words[:, None, None], pooled * words[:, None]
        return Cond(states.float(), tuple(prompts), {"pooled": pooled.float()})

    def call(self, network: Callable[..., Any], x_t: Latents, t: Times, cond: Cond) -> Latents:
        # The size before scaling, the corner of the crop, and the size after it.
        sizes = x_t.new_tensor([self.size, self.size, 0, 0, self.size, self.size]).expand(len(x_t), -1)
        more = {"text_embeds": cond.extra["pooled"], "time_ids": sizes}
        return network(x_t, t, cond.states, added_cond_kwargs=more, return_dict=False)[0]


def refuse_refiner(config: Mapping[str, Any], name: str) -> None:
    """Refuses the refiner of Stable Diffusion XL by the configuration of its pipeline.

    Raises:
        ExpungeError: it is that.
    """
    if config.get("requires_aesthetics_score"):
        raise ExpungeError(
            f"{name} is a refiner of Stable Diffusion XL. It finishes images of the base model and was not trained on noise alone.",
            rule="refiner",
            value=name,
            hint="Try the base model, and measure with the refiner afterwards.",
        )
