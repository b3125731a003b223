"""Train a class-conditional diffusion model of labelled images: `python -m expunge.digits.training.train`.

Without arguments these are scikit-learn's scans of handwritten digits, on two cores in a few minutes. `--data FOLDER` takes a folder with a
folder of images for each class, or CIFAR-10 in its binary version; `--data datasets:FOLDER` what the library `datasets` reads there: the
result of `save_to_disk`, parquet files, or images in SPLIT/CLASS, with nothing downloaded. `--recipe cifar10` is the size of SalUn's model,
for a GPU. A third of the images trains the judge, a third the model, and the rest is the reference, which trains nothing. The results are
`OUT/pipeline`, a folder of diffusers, `OUT/judge`, a folder for `--judge`, and `OUT/card.json` with what was measured. A finished stage is
skipped and an interrupted one resumes from its last checkpoint. Batches are functions of the step.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from rich.progress import Progress
from torch import Tensor

from expunge import config
from expunge.canvas.training.stage import Stage
from expunge.canvas.training.train import denoising_loss, select_batch
from expunge.digits import DIGITS, WEIGHTS
from expunge.digits.pictures import Parts, Pictures, read_pictures, split
from expunge.digits.training.judge import save_judge, train_judge
from expunge.digits.training.quality import measure_quality
from expunge.digits.training.recipe import RECIPES, Recipe, assemble, new_unet, parameters, untrained
from expunge.errors import ExpungeError
from expunge.models.checks import find_device
from expunge.models.quiet import quiet
from expunge.models.sampling import Sampler
from expunge.runs.retrained import STAGE
from expunge.storage.data_sets import SCHEME
from expunge.storage.files import write_json
from expunge.storage.hashing import seed_of


def train_unet(pictures: Pictures, recipe: Recipe, work: Path, seed: int, device: torch.device, progress: Progress) -> UNet2DModel:
    """Train a U-Net on images and their classes, some of them without.

    Raises:
        ExpungeError: a batch is larger than the number of images.
    """
    if recipe.batch_size > len(pictures):
        raise ExpungeError(
            f"A batch of {recipe.batch_size} is larger than the {len(pictures)} images it is sampled from.",
            rule="batch-too-large",
            value=recipe.batch_size,
            hint="Try a smaller batch_size or more images.",
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "weights"))
        unet = new_unet(recipe, pictures.names, *pictures.images.shape[1:3])
    unet.to(device, memory_format=torch.channels_last)
    images, labels = pictures.images.to(device), pictures.labels
    alphas_cumprod = assemble(unet, recipe).scheduler.alphas_cumprod.to(device)

    def predict(x_t: Tensor, t: Tensor, classes: Tensor) -> Any:
        return unet(x_t, t, class_labels=classes)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(seed, "batch", step))
        at = select_batch(step, len(images), recipe.batch_size)
        x_0 = images[at].float() / 127.5 - 1
        if recipe.flips:
            mirrored = torch.rand(len(at), 1, 1, 1, generator=generator).to(device) < 0.5
            x_0 = torch.where(mirrored, x_0.flip(3), x_0)
        is_null = torch.rand(len(at), generator=generator) < recipe.label_dropout
        classes = labels[at].masked_fill(is_null, len(pictures.names)).to(device)
        return denoising_loss(predict, x_0, classes, alphas_cumprod, recipe.snr_gamma, generator)

    Stage(work, STAGE, unet, recipe.lr, recipe.steps, recipe.ema).run(loss, progress)
    return unet.eval()


def train(parts: Parts, recipe: Recipe, out: Path, sampler: Sampler, device: torch.device, progress: Progress) -> dict[str, Any]:
    """Train a judge and a model, and measure both. Returns the content of `OUT/card.json`."""
    began, work = time.monotonic(), out / "training"
    work.mkdir(parents=True, exist_ok=True)
    save_judge(train_judge(parts.judge, recipe, work, device, progress), out / "judge")
    unet = train_unet(parts.model, recipe, work, 0, device, progress)
    with quiet():
        assemble(unet, recipe).to(torch.float16).save_pretrained(out / "pipeline")
    seconds = round(time.monotonic() - began, 1)
    measured = measure_quality(out / "pipeline", out / "judge", parts, sampler, str(device))
    card = {"recipe": config.settings(recipe), "parameters": parameters(unet), "seconds": seconds, **measured}
    write_json(out / "card.json", card, indent=2)
    return card


def estimate(parts: Parts, recipe: Recipe) -> dict[str, Any]:
    """What a training would be, from the configuration alone: parameters, images, and passes of one image."""
    unet = untrained(recipe, parts.model.names, *parts.model.images.shape[1:3])
    return {
        "classes": len(parts.model.names),
        "images": {"judge": len(parts.judge), "model": len(parts.model), "reference": len(parts.reference)},
        "parameters": parameters(unet),
        "steps": recipe.steps,
        "forwards": recipe.steps * recipe.batch_size,
        "bytes of weights, gradients, Adam and average": 5 * 4 * parameters(unet),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data",
        default=DIGITS,
        metavar="FOLDER|datasets:FOLDER",
        help="a folder with a folder of images for each class, or a data set (default: digits)",
    )
    parser.add_argument("--recipe", choices=RECIPES, help="how the model is trained (default: digits, for other data cifar10)")
    parser.add_argument("--size", type=int, metavar="N", help="pixels along each side (default: those of the first image)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps of the model (default: the recipe's)")
    parser.add_argument("--sampler-steps", type=int, default=10, metavar="N", help="denoising steps of measured images (default: 10)")
    parser.add_argument("--guidance", type=float, default=1.5, metavar="X", help="guidance scale of measured images (default: 1.5)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the results (default: the package's own, for digits; else models/NAME)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="print what would be trained, and stop")
    given = parser.parse_args(arguments)
    try:
        recipe = RECIPES[given.recipe or (DIGITS if given.data == DIGITS else "cifar10")]
        recipe = config.build(Recipe, config.settings(recipe) | ({"steps": given.steps} if given.steps else {}), "recipe")
        parts = split(read_pictures(given.data, given.size))
        if given.dry_run:
            print(json.dumps(estimate(parts, recipe), indent=2))
            return
        out = given.out or (WEIGHTS if given.data == DIGITS else Path("models") / Path(given.data.removeprefix(SCHEME)).name)
        sampler = config.build(Sampler, {"steps": given.sampler_steps, "guidance_scale": given.guidance}, "sampler")
        with Progress() as progress:
            card = train(parts, recipe, out, sampler, find_device(given.device), progress)
    except ExpungeError as error:
        parser.exit(2, f"error: {error}\n")
    print(json.dumps(card["samples"]), f"\nWritten to {out}.")
    print(f'next: expunge unlearn dimum --model {out}/pipeline --target "label:{parts.model.names[0]}"')


if __name__ == "__main__":
    main()
