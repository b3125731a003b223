"""Tiny random pipelines of other families than Stable Diffusion's first, made in memory: nothing is downloaded."""

import copy
from functools import cache

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from tiny import tokenizer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from expunge.canvas.prompts import VOCABULARY
from expunge.models.quiet import quiet
from expunge.models.stable_diffusion_3 import StableDiffusion3

T5_LENGTH = 14


def stable_diffusion_3() -> StableDiffusion3:
    return StableDiffusion3(stable_diffusion_3_pipeline())


def stable_diffusion_3_pipeline(use_dynamic_shifting: bool = False) -> StableDiffusion3Pipeline:
    pipeline = copy.deepcopy(_stable_diffusion_3())
    pipeline.scheduler.register_to_config(use_dynamic_shifting=use_dynamic_shifting)
    return pipeline


@cache
def _stable_diffusion_3() -> StableDiffusion3Pipeline:
    """Its first block has `attn2`, which is self-attention of the image, as in Stable Diffusion 3.5 medium."""
    torch.manual_seed(0)
    words, t5 = tokenizer(), _t5_tokenizer()
    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=48,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    encoder = T5Config(
        vocab_size=len(t5),
        d_model=64,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    with quiet():
        pipeline = StableDiffusion3Pipeline(
            transformer=_alive(network).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae.eval(),
            text_encoder=_clip("quick_gelu").eval(),
            tokenizer=words,
            text_encoder_2=_clip("gelu").eval(),
            tokenizer_2=words,
            text_encoder_3=T5EncoderModel(encoder).eval(),
            tokenizer_3=t5,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _alive(network: nn.Module) -> nn.Module:
    """Fills what diffusers initialises with zeros, or a random network would not depend on its prompt."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim >= 2 and not parameter.any():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return network


def _clip(activation: str) -> CLIPTextModelWithProjection:
    words = tokenizer()
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=37,
            projection_dim=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=words.model_max_length,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            hidden_act=activation,
        )
    )


def _t5_tokenizer() -> T5Tokenizer:
    """Every word of the canvas in one piece, and no letters: another word is unknown."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -9.0), *((f"▁{word}", -2.0) for word in VOCABULARY)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)
