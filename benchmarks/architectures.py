"""Pipelines of the architectures that people have, with random weights: what a run costs does not depend on what a network has learnt."""

import json
import string
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

VOCABULARY = 49408
"""Tokens of CLIP's tokenizer."""


def tokenizer(length: int = 77) -> CLIPTokenizer:
    """A CLIP tokenizer with a token for each letter, digit and mark and for two letters; the rest of its table is never used."""
    signs = string.ascii_letters + string.digits + string.punctuation
    merges = [(a, b + end) for end in ("</w>", "") for a in string.ascii_lowercase for b in string.ascii_lowercase]
    tokens = [*signs, *(f"{c}</w>" for c in signs), *("".join(pair) for pair in merges)]
    tokens += [f"unused{i}</w>" for i in range(VOCABULARY - 2 - len(tokens))] + ["<|startoftext|>", "<|endoftext|>"]
    folder = Path(tempfile.mkdtemp())
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGER = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "projection_dim": 1280}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
"""Text encoders: CLIP L, OpenCLIP bigG, and one for tests."""

FEW_CHANNELS = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}


def stable_diffusion_1_5(pixels: int = 512, dtype: torch.dtype = torch.float32, device: str = "cpu") -> StableDiffusionPipeline:
    """The parts of Stable Diffusion 1.5: a U-Net of 860 M parameters, and a text encoder of 123 M."""
    unet = {"sample_size": pixels // 8, "cross_attention_dim": 768, "attention_head_dim": 8}
    return _sd(_made(device, dtype, unet, LARGE))


def small(pixels: int = 64, dtype: torch.dtype = torch.float32, device: str = "cpu") -> StableDiffusionPipeline:
    """The same parts so small that a test can call them."""
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    unet = {"sample_size": pixels // 8, "cross_attention_dim": 32, "attention_head_dim": 4, **FEW_CHANNELS, **blocks}
    return _sd(_made(device, dtype, unet, TINY))


def stable_diffusion_xl(pixels: int = 1024, dtype: torch.dtype = torch.float32, device: str = "cpu") -> StableDiffusionXLPipeline:
    """The parts of Stable Diffusion XL: a U-Net of 2.6 G parameters, and two text encoders of 123 and 695 M."""
    unet = {
        "sample_size": pixels // 8,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    }
    return _sdxl(_made(device, dtype, unet, LARGE, LARGER))


def small_xl(pixels: int = 64, dtype: torch.dtype = torch.float32, device: str = "cpu") -> StableDiffusionXLPipeline:
    """The same parts so small that a test can call them."""
    unet = {
        "sample_size": pixels // 8,
        "cross_attention_dim": 64,
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 1),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
        **FEW_CHANNELS,
    }
    return _sdxl(_made(device, dtype, unet, TINY, TINY))


def _made(device: str, dtype: torch.dtype, unet: dict, *texts: dict) -> tuple:
    """Tokenizer, autoencoder, network and text encoders, which are made on the device."""
    torch.manual_seed(0)
    words, is_small = tokenizer(), texts[0] is TINY
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    channels = (8, 8, 8, 8) if is_small else (128, 256, 512, 512)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = {"block_out_channels": channels, "norm_num_groups": 8 if is_small else 32, "layers_per_block": 2, "latent_channels": 4}
    with torch.device(device):
        parts = [AutoencoderKL(**vae, **blocks), UNet2DConditionModel(**unet)]
        for number, text in enumerate(texts):
            kind = CLIPTextModelWithProjection if number else CLIPTextModel
            parts.append(kind(CLIPTextConfig(vocab_size=len(words), max_position_embeddings=77, **text, **ids)))
    return words, *(part.to(dtype).eval() for part in parts)


def _scheduler() -> DDIMScheduler:
    about = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**about, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _sd(made: tuple) -> StableDiffusionPipeline:
    words, vae, unet, text = made
    checks = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae, text, words, unet, _scheduler(), **checks)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sdxl(made: tuple) -> StableDiffusionXLPipeline:
    words, vae, unet, text, text_2 = made
    pipeline = StableDiffusionXLPipeline(vae, text, text_2, words, words, unet, _scheduler(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
