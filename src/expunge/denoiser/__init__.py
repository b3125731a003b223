"""Any diffusers pipeline behind one calling convention. The only part of the library that imports diffusers."""

from expunge.denoiser.loading import load as load
from expunge.denoiser.stable_diffusion import Pipeline as Pipeline
from expunge.denoiser.stable_diffusion import Sampler as Sampler
from expunge.denoiser.stable_diffusion import StableDiffusion as StableDiffusion
