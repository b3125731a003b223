"""The architecture of the canvas: its pipeline and the parts of it, untrained, for training and tests."""

import itertools
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from expunge.canvas.prompts import VOCABULARY

SAMPLER = {"steps": 12, "guidance": 3.0}
"""The canvas's default sampler: DPM-Solver++ (2M) in 12 steps, guidance 3."""


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder: 3x64x64 images to 4x16x16 latents."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a CLIP tokenizer to a folder. Its byte-pair merges join the letters of each word of the canvas into one token."""
    letters = sorted({c for word in VOCABULARY for c in word})
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    for word in VOCABULARY:
        # Merges of earlier words apply first. New merges are appended, so they do not change earlier words.
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            known = [merges.index(p) for p in pairs if p in merges]
            if not known:
                merges.append(pairs[0])
                tokens.append("".join(pairs[0]))
            at = pairs.index(merges[min(known, default=-1)])
            parts = [*parts[:at], "".join(pairs[at]), *parts[at + 2 :]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(dict.fromkeys(tokens))}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12)
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder, trust_remote_code=False)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder with 96-wide states."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            projection_dim=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained U-Net for 4x16x16 latents."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 80, 160),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=4,
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    """The canvas's scheduler: DPM-Solver++ on the noise schedule of Stable Diffusion."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", final_sigmas_type="zero"
    )  # fmt: skip


def assemble(vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """Put the parts together to a diffusers pipeline."""
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, new_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(pipeline: StableDiffusionPipeline, texts: list[str], seed: int, batch: int = 50) -> Tensor:
    """Sample 8-bit images of the prompts with the canvas's default sampler."""
    pictures = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        noise = torch.randn(len(part), 4, 16, 16, generator=torch.Generator().manual_seed(seed + start)).to(pipeline.device)
        out = pipeline(part, latents=noise, num_inference_steps=SAMPLER["steps"], guidance_scale=SAMPLER["guidance"], output_type="pt")
        pictures.append((out.images * 255).round().to(torch.uint8))
    return torch.cat(pictures)
