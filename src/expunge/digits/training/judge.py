"""A judge of labelled images: a small ConvNeXt that is trained on images of its own, in the format of transformers."""

from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F
from transformers import ConvNextConfig, ConvNextForImageClassification, ViTImageProcessor

from expunge.canvas.training.stage import Stage
from expunge.canvas.training.train import select_batch
from expunge.digits.pictures import Pictures
from expunge.digits.training.recipe import Recipe
from expunge.models.quiet import quiet
from expunge.storage.hashing import seed_of

BATCH = 64
LR = 3e-3
TURN, SCALE, SHEAR, SHIFT = 0.2, 0.12, 0.15, 0.17
"""The largest random turn (in radians), change of size, shear, and shift (in halves of a side) of a training image."""


def new_judge(recipe: Recipe, names: tuple[str, ...], size: int) -> ConvNextForImageClassification:
    """An untrained judge of images of these classes. It reads three channels."""
    config = ConvNextConfig(
        patch_size=1 if size < 16 else 2,
        num_stages=len(recipe.judge_widths),
        hidden_sizes=list(recipe.judge_widths),
        depths=[2] * len(recipe.judge_widths),
        layer_scale_init_value=1.0,
        image_size=size,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    return ConvNextForImageClassification(config)


def train_judge(pictures: Pictures, recipe: Recipe, work: Path, device: torch.device, progress: Progress) -> ConvNextForImageClassification:
    """Train a judge on turned, scaled, sheared, shifted and noisy images, so that it tolerates what a model generates."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of("judge"))
        judge = new_judge(recipe, pictures.names, pictures.images.shape[-1]).to(device)
    images, labels = pictures.images.to(device), pictures.labels.to(device)
    batch = min(BATCH, len(images))

    def loss(step: int) -> Tensor:
        at = select_batch(step, len(images), batch)
        x = augment(images[at].float() / 127.5 - 1, torch.Generator().manual_seed(seed_of("judge", step)), recipe.flips)
        return F.cross_entropy(judge(x.expand(-1, 3, -1, -1)).logits, labels[at], label_smoothing=0.05)

    Stage(work, "judge", judge, LR, recipe.judge_steps).run(loss, progress)
    return judge.eval().requires_grad_(False)


def augment(x: Tensor, generator: torch.Generator, flips: bool) -> Tensor:
    """Images in -1..1, each turned, scaled, sheared, shifted, and with noise of its own strength."""

    def random(*shape: int) -> Tensor:
        return torch.rand(len(x), *shape, generator=generator) * 2 - 1

    turn, scale, shear = random() * TURN, 1 + random() * SCALE, random() * SHEAR
    mirror = random().sign() if flips else torch.ones(len(x))
    rows = torch.stack([mirror * turn.cos() * scale, shear - turn.sin() * scale, turn.sin() * scale, turn.cos() * scale], 1)
    grid = F.affine_grid(torch.cat([rows.view(-1, 2, 2), random(2, 1) * SHIFT], 2), list(x.shape), align_corners=False)
    moved = F.grid_sample(x + 1, grid.to(x), align_corners=False) - 1  # what comes in from outside is black
    noise = torch.randn(x.shape, generator=generator) * random(1, 1, 1).abs() / 10
    return moved + noise.to(x)


def save_judge(judge: ConvNextForImageClassification, folder: Path) -> None:
    """Write a judge as a folder that `--judge` takes."""
    size = judge.config.image_size
    with quiet():
        judge.save_pretrained(folder)
        ViTImageProcessor(do_resize=True, size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
            folder
        )
