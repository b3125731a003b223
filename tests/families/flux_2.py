"""Flux.2, tiny: klein, base and distilled, whose prompts Qwen3 reads; and dev, which Mistral reads for."""

import copy
from functools import cache

import torch
from diffusers import (
    AutoencoderKLFlux2,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from torch import Tensor
from transformers import Mistral3Config, Mistral3ForConditionalGeneration

from expunge.models.flux_2 import Flux2Dev, Flux2Klein
from families.parts import alive, assembled, chat_tokenizer, qwen3


def model() -> Flux2Klein:
    return Flux2Klein(pipeline())


def pipeline(is_distilled: bool = False, is_dev: bool = False) -> DiffusionPipeline:
    made = copy.deepcopy(_dev() if is_dev else _klein())
    made.tokenizer_max_length = 96 if is_dev else 48  # not 512: all rows are read, padding too
    if not is_dev:
        made.register_to_config(is_distilled=is_distilled)
    return made


def sample(of: DiffusionPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "max_sequence_length": of.tokenizer_max_length,
        "output_type": output,
    }
    made = of(prompt=prompts, latents=noise, height=16, width=16, **given).images
    if output != "latent":
        return made
    # Dev gives its latents packed, klein as the autoencoder reads them.
    family = Flux2Dev(of) if isinstance(of, Flux2Pipeline) else Flux2Klein(of)
    return made.mT.reshape(noise.shape) if isinstance(of, Flux2Pipeline) else family.from_autoencoder(made)


def _network(width: int, guidance_embeds: bool) -> Flux2Transformer2DModel:
    network = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    network.context_embedder.weight.data *= 8  # or a prompt, among so much of a template, would hardly be read
    return alive(network)


def _autoencoder() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    vae.bn.running_mean.copy_(torch.linspace(-0.2, 0.2, 16))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 16))
    return vae.eval()


@cache
def _klein() -> Flux2KleinPipeline:
    torch.manual_seed(0)
    return assembled(
        Flux2KleinPipeline,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_autoencoder(),
        text_encoder=qwen3(8, layers=28),
        tokenizer=chat_tokenizer(),
        transformer=_network(24, False),
    )


@cache
def _dev() -> Flux2Pipeline:
    torch.manual_seed(0)
    text = {
        "model_type": "mistral",
        "vocab_size": len(chat_tokenizer()),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 31,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "image_size": 30,
        "patch_size": 6,
        "num_channels": 3,
    }
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=0, spatial_merge_size=2, vision_feature_layer=-1)
    return assembled(
        Flux2Pipeline,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_autoencoder(),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=chat_tokenizer(),
        transformer=_network(24, True),
    )
