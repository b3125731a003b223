"""Victims that are quickly attacked."""

from pathlib import Path

import tiny
import torch
from torch import Tensor

from expunge.attacks.base import Attack, Victim
from expunge.concepts.concept import Concept
from expunge.evaluation.judges import NOTHING, Judgement
from expunge.models.sampling import Sampler
from expunge.models.stable_diffusion import StableDiffusion
from expunge.storage.cache import Store


def delta(model: StableDiffusion, seed: int = 0) -> dict[str, Tensor]:
    """Changes of what methods change, and of a convolution and a bias, which is kept in half precision."""
    generator = torch.Generator().manual_seed(seed)
    chosen = {n: p for n, p in model.network.named_parameters() if ".attn2.to_k" in n or n.startswith("conv_in.")}
    made = {n: p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for n, p in chosen.items()}
    return {n: v.half() if n == "conv_in.bias" else v for n, v in made.items()}


class Bright:
    """A judge that sees the concept in the brighter half of all greys, and is the surer the further an image is from the middle."""

    name, weights = "bright", "none"

    def __call__(self, images: Tensor, concept: Concept) -> Judgement:
        shares = (images.float().mean((1, 2, 3)) / 255).tolist()
        labels = tuple(concept.member.name if share > 0.5 else NOTHING for share in shares)
        return Judgement({concept.kind: labels}, confidence={concept.kind: tuple(abs(2 * share - 1) for share in shares)})


def victim(tmp_path: Path, target: str = "neon", **given) -> Victim:
    session = tiny.session(given.pop("model", None), given.pop("cache", None) or Store(tmp_path / "store"))
    return Victim(
        session,
        tiny.concept(target),
        **{"delta": delta(session.model), "pictures": 2, "judge": Bright(), "sampler": Sampler(2, 2.0), **given},
    )


def readings(attack: Attack, attacked: Victim) -> list[dict[str, Tensor]]:
    """The weights of every reading."""
    return [dict(r.weights) for r in attack(attacked)]


def same(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a) for a, b in zip(one, other, strict=True)
    )
