"""What an attack on the weights yields: other weights, under the prompts that name the concept, as they are."""

from collections.abc import Mapping

from torch import Tensor

from expunge.attacks.attack import Attacked, Victim


def plain(victim: Victim, strength: float, weights: Mapping[str, Tensor]) -> Attacked:
    """A reading whose pictures are asked for in plain words, under the victim's weights but for those in `weights`."""
    prompts, seeds = victim.asked()
    return Attacked(strength, victim.denoiser.encode(prompts), tuple(seeds), {**victim.delta, **weights})
