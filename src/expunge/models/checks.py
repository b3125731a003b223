"""What a model is loaded from and onto: its folder and the device, checked with messages for the mistakes that users really make."""

import json
import os
from pathlib import Path

import torch

from expunge.errors import ExpungeError
from expunge.models.quiet import StableDiffusionPipeline

FAMILY = "a model is Stable Diffusion 1.x or 2.x for text to image"
"""What every refusal of another begins with."""


def find_device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # one of several processes, each with a device of its own
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % max(1, torch.cuda.device_count())}"
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ExpungeError(f"a device is one that this machine has: {device!r}: {str(error).splitlines()[0]}; try --device cpu") from error


def check_folder(folder: Path) -> None:
    """A readable message for the folders that users really have."""
    index = folder / "model_index.json"
    if not index.is_file():
        single = sorted(p.name for p in folder.glob("*.safetensors")) if folder.is_dir() else [folder.name]
        hint = f"; convert {single[0]} with StableDiffusionPipeline.from_single_file(...).save_pretrained(...)" if single else ""
        raise ExpungeError(f"a model folder is in diffusers format: {folder} has no model_index.json{hint or '; check the path'}")
    try:
        parts = json.loads(index.read_text())
    except ValueError as error:
        raise ExpungeError(f"model_index.json is JSON: {index}: {error}; save the pipeline again") from error
    if parts.get("text_encoder_2"):
        raise ExpungeError(
            f"{FAMILY}: {folder} is a {parts.get('_class_name')}, with a second text encoder; SDXL and later cannot be used yet"
        )
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if part not in parts:
            raise ExpungeError(f"a Stable Diffusion pipeline has a {part}: {folder} lists none (it is a {parts.get('_class_name')})")
        if not (folder / part).is_dir():
            raise ExpungeError(f"a model folder holds all its parts: {folder / part} is missing; copy or save the pipeline again")
    for part in ("unet", "vae", "text_encoder"):
        if not any((folder / part).glob("*.safetensors")):
            pickles = sorted(p.name for p in (folder / part).glob("*.bin"))
            have = f"holds only {pickles[0]}, a pickle, which can run code when it is read" if pickles else "has no weights"
            raise ExpungeError(f"weights are safetensors: {folder / part} {have}; save the pipeline again with safe_serialization=True")


def check_family(pipeline: StableDiffusionPipeline) -> None:
    """Refuses what has the parts of Stable Diffusion and another network: it would be called wrongly, or draw what it cannot.

    Raises:
        ExpungeError: a network for inpainting, editing or upscaling, of SDXL, or distilled to take its guidance as an input.
    """
    unet, width = pipeline.unet.config, pipeline.text_encoder.config.hidden_size
    odd = {
        f"it takes {unet.in_channels} channels and gives {unet.out_channels}, as for inpainting": unet.in_channels != unet.out_channels,
        "it is told more than a prompt, as SDXL": unet.addition_embed_type is not None or unet.class_embed_type is not None,
        "its guidance is distilled into it, as in latent consistency models": unet.time_cond_proj_dim is not None,
        f"it reads prompts of width {unet.cross_attention_dim}, of a text encoder of {width}": unet.cross_attention_dim != width,
    }
    if found := [what for what, is_so in odd.items() if is_so]:
        raise ExpungeError(f"{FAMILY}: of this one's network {found[0]}; give another model")
