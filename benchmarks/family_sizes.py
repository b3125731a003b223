"""Parameters of each family's networks at the published sizes, and what training a scope needs: `python benchmarks/family_sizes.py`.

Networks are built on the meta device from the configurations below, so nothing is downloaded. Prints the table of
docs/how-to/families.md.
"""

from collections.abc import Callable
from functools import partial

import diffusers as d
import torch
from torch import nn

from expunge.models.families import FAMILIES
from expunge.models.scopes import SCOPES, matching, size_of

SD3 = partial(d.SD3Transformer2DModel, num_layers=24, num_attention_heads=24, caption_projection_dim=1536)
SHAPES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "Flux.1 dev, schnell": ("FluxPipeline", partial(d.FluxTransformer2DModel, guidance_embeds=True)),
    "Flux.2 klein 4B": (
        "Flux2KleinPipeline",
        partial(
            d.Flux2Transformer2DModel,
            num_layers=5,
            num_single_layers=20,
            num_attention_heads=24,
            joint_attention_dim=7680,
            guidance_embeds=False,
        ),
    ),
    "Flux.2 dev": ("Flux2Pipeline", d.Flux2Transformer2DModel),
    "Z-Image": ("ZImagePipeline", d.ZImageTransformer2DModel),
    "SD 3 medium": ("StableDiffusion3Pipeline", partial(SD3, pos_embed_max_size=192)),
    "SD 3.5 medium": (
        "StableDiffusion3Pipeline",
        partial(SD3, pos_embed_max_size=384, qk_norm="rms_norm", dual_attention_layers=tuple(range(13))),
    ),
    "SD 3.5 large": (
        "StableDiffusion3Pipeline",
        partial(SD3, num_layers=38, num_attention_heads=38, caption_projection_dim=2432, pos_embed_max_size=192, qk_norm="rms_norm"),
    ),
    "Qwen-Image": ("QwenImagePipeline", d.QwenImageTransformer2DModel),
    "PixArt-Sigma": ("PixArtSigmaPipeline", partial(d.PixArtTransformer2DModel, caption_channels=4096, out_channels=8)),
    "Sana 1.6B": ("SanaPipeline", d.SanaTransformer2DModel),
}
COLUMNS = ("xattn-kv", "xattn", "xattn-lora")
TRAINED = 16
"""Bytes for each trained number: float32 weight, gradient and two moments of Adam."""


def row(name: str) -> str:
    pipeline, build = SHAPES[name]
    with torch.device("meta"):
        network = build()
    total = sum(p.numel() for p in network.parameters())
    cells = [f"{total / 1e9:.1f} G", f"{2 * total / 2**30:.1f} GiB"]
    for scope in (SCOPES[column] for column in COLUMNS):
        count = size_of(matching(network, FAMILIES[pipeline].scopes[scope.of or scope.name], scope.rank), scope.rank)
        cells.append(f"{TRAINED * count / 2**30:.1f} GiB" if TRAINED * count >= 2**30 else f"{TRAINED * count / 2**20:.0f} MiB")
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    titles = ("model", "network", "in bf16", *(f"train `{column}`" for column in COLUMNS))
    print("| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *map(row, SHAPES), sep="\n")
