"""The model families by the class of their diffusers pipeline. A new family is added to this list."""

from collections.abc import Mapping

from expunge.models.base import DiffusionModel
from expunge.models.dit import DiT
from expunge.models.flux_1 import Flux1
from expunge.models.flux_2 import Flux2Dev, Flux2Klein
from expunge.models.pixart_sigma import PixArtSigma
from expunge.models.qwen_image import QwenImage
from expunge.models.sana import Sana
from expunge.models.stable_diffusion import StableDiffusion
from expunge.models.stable_diffusion_3 import StableDiffusion3
from expunge.models.stable_diffusion_xl import StableDiffusionXL
from expunge.models.unet_2d import UNet2D
from expunge.models.z_image import ZImage

_UNETS = (StableDiffusion, StableDiffusionXL, UNet2D)
_TRANSFORMERS = (Flux1, Flux2Klein, Flux2Dev, ZImage, StableDiffusion3, QwenImage, PixArtSigma, Sana, DiT)
FAMILIES: dict[str, type[DiffusionModel]] = {family.pipeline_class: family for family in (*_UNETS, *_TRANSFORMERS)}


def family_of(pipeline_class: str, parts: Mapping[str, str]) -> type[DiffusionModel] | None:
    """The family of a pipeline by its class, or of a pipeline of another class by its networks; None: no family has these.

    Pipelines for other tasks, as image to image, share the parts of the one for text to image, and the class of its network.

    Args:
        parts: the class of each part.
    """
    networks = {part for part in parts if part.startswith(("unet", "transformer", "vae", "text_encoder", "tokenizer"))}
    alike = (
        family
        for family in FAMILIES.values()
        if networks == set(family.parts) - {"scheduler"} and parts[family.network_part] == family.network_class
    )
    return FAMILIES.get(pipeline_class) or next(alike, None)
