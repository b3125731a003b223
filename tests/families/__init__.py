"""Tiny random pipelines of model families, made in memory: nothing is downloaded.

A module for each family offers `pipeline()`, a new pipeline of diffusers; `model()`, the same as expunge sees it; and
`sample(pipeline, prompts, noise, steps, guidance, output)`, what diffusers makes of that noise. `parts.py` has what families share.
`test_agreement.py` compares each of `FAMILIES` with diffusers; a new family is added to that list.
"""

from types import ModuleType

from families import stable_diffusion_3

FAMILIES: dict[str, ModuleType] = {"sd3": stable_diffusion_3}
