"""The canvas's two judges: classifiers with different architectures and different training drawings.

Every reported number comes from `Judge.load("main")`. `Judge.load("second")` checks that a result is not an artefact of the first judge.
Neither was trained on generated images.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from expunge.canvas.prompts import OBJECT_LABELS, STYLE_LABELS

JudgeName = Literal["main", "second"]


@dataclass(frozen=True)
class Verdict:
    """A judge's outputs for a batch of images."""

    objects: Float[Tensor, "b 20"]
    """Logits over `OBJECT_LABELS`."""
    styles: Float[Tensor, "b 11"]
    """Logits over `STYLE_LABELS` (the last is "plain")."""
    features: Float[Tensor, "b d"]
    """The layer below both heads, in which FID and KID are measured."""


class Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a skip connection; the first halves the resolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.norm2(self.second(F.relu(self.norm1(self.first(x))))))


class Depthwise(nn.Module):
    """A 7x7 depthwise convolution, layer normalisation and a pointwise network, with a skip connection."""

    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.wide, self.narrow = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(3 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.wide(self.norm(self.mix(x)))))


def _trunk(name: JudgeName) -> nn.Sequential:
    match name:
        case "main":
            stem = (nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU())
            return nn.Sequential(*stem, Residual(32, 64), Residual(64, 96), Residual(96, 128))
        case "second":
            return nn.Sequential(
                nn.Conv2d(3, 64, 4, stride=4), Depthwise(64), Depthwise(64),
                nn.Conv2d(64, 112, 2, stride=2), Depthwise(112), Depthwise(112), Depthwise(112),
            )  # fmt: skip


class Judge(nn.Module):
    """A classifier of the object and the style of a 64x64 image."""

    def __init__(self, name: JudgeName = "main"):
        super().__init__()
        self.trunk = _trunk(name)
        width = 128 if name == "main" else 112
        self.objects = nn.Linear(2 * width, len(OBJECT_LABELS))
        self.styles = nn.Linear(2 * width, len(STYLE_LABELS))

    def forward(self, pictures: UInt8[Tensor, "b 3 height width"]) -> Verdict:
        maps = self.trunk(pictures.float() / 127.5 - 1)
        features = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        return Verdict(self.objects(features), self.styles(features), features)

    @classmethod
    def load(cls, name: JudgeName = "main") -> "Judge":
        """Load a judge that comes with the package, frozen and in evaluation mode."""
        judge = cls(name)
        with resources.as_file(resources.files("expunge.canvas") / "weights" / f"judge-{name}.safetensors") as file:
            judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()})
        return judge.eval().requires_grad_(False)
