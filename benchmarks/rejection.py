"""What the canvas's judges reject as no member of any kind: `python benchmarks/rejection.py` prints the table of docs/how-to/judge.md."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from expunge.canvas.draw import draw
from expunge.concepts.concept import Concept
from expunge.concepts.vocabulary import Vocabulary
from expunge.evaluation.judges import load_judge
from expunge.evaluation.rejection import find_threshold, lowest

COUNT, MEMBERS = 200, 400


def drawn(count: int, seed: int, shift: int = 0) -> Tensor:
    """Drawings of random objects and styles; with `shift` of other objects in the same styles."""
    generator = torch.Generator().manual_seed(seed)
    objects, styles = torch.randint(20, (count,), generator=generator), torch.randint(11, (count,), generator=generator)
    return draw((objects + shift) % 20, styles, seed)


def blurred(images: Tensor, sigma: float) -> Tensor:
    reach = int(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    return F.conv2d(F.pad(images.float(), (reach,) * 4, mode="reflect"), kernel.expand(3, 1, -1, -1), groups=3).round().to(torch.uint8)


def tiles(images: Tensor, generator: torch.Generator) -> Tensor:
    """Sixteen tiles of each image in another order."""
    parts = images.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)
    moved = torch.stack([part[:, torch.randperm(16, generator=generator)] for part in parts])
    return moved.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5).reshape(images.shape)


def spoilt() -> Mapping[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    true = drawn(COUNT, 5)
    noised = true.float() + 50 * torch.randn(true.shape, generator=generator)
    return {
        "true drawings": drawn(COUNT, 1),
        "two objects of one style averaged": ((drawn(COUNT, 11).float() + drawn(COUNT, 11, 7).float()) / 2).to(torch.uint8),
        "uniform noise": torch.randint(0, 256, true.shape, generator=generator).to(torch.uint8),
        "sixteen tiles in another order": tiles(true, generator),
        "Gaussian blur of 4 pixels": blurred(true, 4.0),
        "Gaussian blur of 2 pixels": blurred(true, 2.0),
        "Gaussian noise, 50 of 255": noised.clamp(0, 255).to(torch.uint8),
    }


def main() -> None:
    judges, images, members = [load_judge(name) for name in ("main", "second")], spoilt(), drawn(MEMBERS, 3)
    concept = Concept.find("ring", Vocabulary.canvas())
    limits = [find_threshold(lowest(judge(members, concept).confidence)) for judge in judges]
    print(f"| images, {COUNT} of each | main judge rejects | second judge |\n|---|---:|---:|")
    for what, of in images.items():
        shares = []
        for judge, limit in zip(judges, limits, strict=True):
            assert limit is not None
            sure = lowest(judge(of, concept).confidence)
            shares.append(f"{100 * sum(value < limit for value in sure) / len(sure):.0f} %")
        print(f"| {what} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
