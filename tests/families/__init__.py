"""Tiny random pipelines of model families, made in memory: nothing is downloaded.

A module for each family offers `pipeline()`, a new pipeline of diffusers; `model()`, the same as expunge sees it; and
`sample(pipeline, prompts, noise, steps, guidance, output)`, what diffusers makes of that noise. `parts.py` has what families share.
`test_table.py` makes each check of `checks.py` of `EVERY` family; a new one is added there. A family whose prompts are not
the canvas's has `PROMPTS`.
"""

from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from expunge.models.base import DiffusionModel
from expunge.models.loading import load
from families import (
    dit,
    flux_1,
    flux_2,
    pixart_sigma,
    qwen_image,
    sana,
    stable_diffusion_2,
    stable_diffusion_3,
    stable_diffusion_xl,
    unet_2d,
    z_image,
)


def _variant(module: ModuleType, **settings: Any) -> SimpleNamespace:
    """A module whose `pipeline` is called with these settings."""
    made = SimpleNamespace(pipeline=lambda: module.pipeline(**settings), sample=module.sample)
    made.model = lambda: load(made.pipeline())
    return made


FAMILIES: dict[str, Any] = {
    "sd2-zero-snr": stable_diffusion_2,
    "sdxl": stable_diffusion_xl,
    "sdxl-v": _variant(stable_diffusion_xl, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
    "flux-1-dev": flux_1,
    "flux-1-schnell": _variant(flux_1, is_schnell=True),
    "flux-2-klein-base": flux_2,
    "flux-2-klein": _variant(flux_2, is_distilled=True),
    "flux-2-dev": _variant(flux_2, is_dev=True),
    "z-image": z_image,
    "sd3": stable_diffusion_3,
    "qwen-image": qwen_image,
    "pixart-sigma": pixart_sigma,
    "sana": sana,
}
"""Those that read words."""

EVERY: dict[str, Any] = {**FAMILIES, "dit": dit, "unet-2d": unet_2d}


@cache
def shared(family: str) -> DiffusionModel:
    """A model that several tests read and none changes."""
    return FAMILIES[family].model()
