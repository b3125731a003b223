"""Sana, tiny."""

import copy
import inspect
import re
import string
from functools import cache

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from torch import Tensor
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from expunge.canvas.prompts import VOCABULARY
from expunge.models.sana import Sana
from families.parts import alive, assembled, byte_pairs


def model() -> Sana:
    return Sana(pipeline())


def pipeline() -> SanaPipeline:
    return copy.deepcopy(_pipeline())


def sample(of: SanaPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": output}
    return of(prompts, latents=noise, height=32, width=32, use_resolution_binning=False, **given).images


def _tokenizer() -> GemmaTokenizer:
    """Every word of the canvas, and of the instruction before a prompt, is one token behind a space."""
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    words = {*VOCABULARY, *re.findall("[A-Za-z]+", "".join(instruction))}
    merged, merges = byte_pairs("▁", sorted(words))
    tokens = dict.fromkeys(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.printable.replace(" ", ""), *merged])
    return GemmaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, add_bos_token=True, model_max_length=8192)


@cache
def _pipeline() -> SanaPipeline:
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    network = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=8,
        sample_size=8,
    )
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=[1, 1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    config = Gemma2Config(
        head_dim=8,
        hidden_size=8,
        initializer_range=0.3,
        intermediate_size=16,
        max_position_embeddings=8192,
        num_attention_heads=2,
        num_hidden_layers=1,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        attn_implementation="eager",
    )
    return assembled(
        SanaPipeline,
        transformer=alive(network),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=Gemma2Model(config).eval(),
        tokenizer=tokenizer,
    )
