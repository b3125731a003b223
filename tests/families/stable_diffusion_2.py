"""Stable Diffusion 2.1, tiny: it predicts v, and at its last time no signal is left (zero terminal SNR)."""

import tiny
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from expunge.models.stable_diffusion import StableDiffusion


def model() -> StableDiffusion:
    return StableDiffusion(pipeline())


def pipeline() -> StableDiffusionPipeline:
    made = tiny.pipeline()
    made.scheduler = DDIMScheduler.from_config(
        made.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False
    )
    return made


def sample(of: StableDiffusionPipeline, prompts: list[str], noise: Tensor, steps: int, guidance: float, output: str) -> Tensor:
    given = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": output}
    side = of.unet.config.sample_size * of.vae_scale_factor
    return of(prompts, latents=noise, height=side, width=side, **given).images
