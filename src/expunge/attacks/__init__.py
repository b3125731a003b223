"""Attacks: attempts to get a removed concept back from a model. `ATTACKS` has them by name.

An attack only yields prompts and weights. `audits` samples the images, has them judged and compares models.
"""

from expunge.attacks.base import Attack, Attacked, Victim
from expunge.attacks.ddim_inversion import DDIMInversion
from expunge.attacks.few_shot import FewShot
from expunge.attacks.img2img import Img2Img
from expunge.attacks.inpainting import Inpainting
from expunge.attacks.inversion import Inversion
from expunge.attacks.noise_optimisation import NoiseOptimisation
from expunge.attacks.noise_search import NoiseSearch
from expunge.attacks.prompt_search import P4D, PromptSearch
from expunge.attacks.relearn import Relearn
from expunge.attacks.ring_a_bell import RingABell
from expunge.attacks.weight_perturbation import Noise, Prune, Quantise
from expunge.attacks.wording import Wording
from expunge.errors import Inapplicable

__all__ = [
    "ATTACKS",
    "P4D",
    "Attack",
    "Attacked",
    "DDIMInversion",
    "FewShot",
    "Img2Img",
    "Inapplicable",
    "Inpainting",
    "Inversion",
    "Noise",
    "NoiseOptimisation",
    "NoiseSearch",
    "PromptSearch",
    "Prune",
    "Quantise",
    "Relearn",
    "RingABell",
    "Victim",
    "Wording",
]  # fmt: skip

ATTACKS: dict[str, type[Attack]] = {
    "relearn": Relearn,
    "few-shot": FewShot,
    "quantise": Quantise,
    "prune": Prune,
    "noise": Noise,
    "inversion": Inversion,
    "img2img": Img2Img,
    "inpainting": Inpainting,
    "ddim-inversion": DDIMInversion,
    "noise-search": NoiseSearch,
    "noise-optimisation": NoiseOptimisation,
    "prompt-search": PromptSearch,
    "p4d": P4D,
    "ring-a-bell": RingABell,
    "wording": Wording,
}
"""Every attack by its name: a frozen dataclass whose fields are its settings."""
