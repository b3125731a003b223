"""The model families by the class of their diffusers pipeline. A new family is added to this list."""

from collections.abc import Collection

from expunge.models.base import DiffusionModel
from expunge.models.stable_diffusion import StableDiffusion
from expunge.models.stable_diffusion_3 import StableDiffusion3

FAMILIES: dict[str, type[DiffusionModel]] = {family.pipeline_class: family for family in (StableDiffusion, StableDiffusion3)}


def family_of(pipeline_class: str, parts: Collection[str]) -> type[DiffusionModel] | None:
    """The family of a pipeline by its class, or of a pipeline of another class by its networks; None: no family has these.

    Pipelines for other tasks, as image to image, share the parts of the one for text to image.
    """
    networks = {part for part in parts if part.startswith(("unet", "transformer", "vae", "text_encoder", "tokenizer"))}
    alike = (family for family in FAMILIES.values() if networks == set(family.parts) - {"scheduler"})
    return FAMILIES.get(pipeline_class) or next(alike, None)
