"""Z-Image, tiny."""

import copy
from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor

from expunge.models.z_image import LENGTH, ZImage
from families.parts import alive, assembled, autoencoder, chat_tokenizer, qwen3


def model() -> ZImage:
    return ZImage(pipeline())


def pipeline() -> ZImagePipeline:
    return copy.deepcopy(_pipeline())


def sample(of: ZImagePipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance - 1, "max_sequence_length": LENGTH, "output_type": output}
    return of(list(prompts), latents=noise, height=16, width=16, **given).images


@cache
def _pipeline() -> ZImagePipeline:
    torch.manual_seed(0)
    network = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if "pad_token" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return assembled(
        ZImagePipeline,
        transformer=alive(network),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, 0.3611, 0.1159, has_quant_conv=False),
        text_encoder=qwen3(8, layers=2).model,
        tokenizer=chat_tokenizer(),
    )
