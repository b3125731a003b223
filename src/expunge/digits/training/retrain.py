"""Retrain the model of digits without a class: `python -m expunge.digits.training.retrain --target label:3`.

The retrained network is the control of unlearning, as on the canvas: it starts from random weights and is trained like the model, on the
images of all other classes. The row of the class in the table of classes stays as it was initialised. The result is a run folder, which
`expunge eval`, `expunge report` and `--control` of `expunge audit` read like any other run.
"""

import argparse
from pathlib import Path

from rich.progress import Progress

from expunge import config
from expunge.concepts.concept import Concept
from expunge.digits import DIGITS
from expunge.digits.pictures import Parts, read_pictures, split
from expunge.digits.training.recipe import RECIPES, Recipe
from expunge.digits.training.train import train_unet
from expunge.errors import ExpungeError
from expunge.models.loading import load
from expunge.runs.retrained import write_retrained
from expunge.runs.run import Run
from expunge.storage.code import code_digest, modules_of


def retrain(
    target: str,
    out: str | Path | None = None,
    *,
    model: str = DIGITS,
    parts: Parts | None = None,
    seed: int = 0,
    recipe: Recipe = RECIPES["digits"],
    device: str = "cpu",
    progress: Progress | None = None,
) -> Run:
    """Train a U-Net without one class, and write a run folder. An interrupted run is resumed.

    Args:
        target: The class to leave out, such as "label:3".
        out: The run folder; default `runs/ID`.
        model: The model that the run is a control for: "digits", or the folder of one that was trained on `parts`.
        parts: The images; default the digits.
        seed: The seed of weights and batches.
        recipe: How the U-Net is trained; it must be the model's own architecture.
        device: The device to train on.
        progress: Where progress is shown; default nowhere.

    Raises:
        ExpungeError: the target is no class of the model; the folder contains another run.
    """
    base, pictures = load(model, device), (parts or split(read_pictures(DIGITS))).model
    concept = Concept.find(target, base.defaults.vocabulary())
    others = pictures.without(pictures.names.index(concept.member.name))
    return write_retrained(
        base,
        concept,
        out,
        seed=seed,
        training=recipe,
        code=code_digest("expunge.digits.training.retrain", *modules_of(base)),
        train=lambda work: dict(train_unet(others, recipe, work, seed, base.device, progress or Progress(disable=True)).named_parameters()),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", required=True, metavar="label:N", help="the class to leave out")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the run folder (default: runs/ID)")
    parser.add_argument("--model", default=DIGITS, metavar="FOLDER", help="the model that it is a control for (default: digits)")
    parser.add_argument(
        "--data", default=DIGITS, metavar="FOLDER|datasets:FOLDER", help="the images that the model was trained on (default: digits)"
    )
    parser.add_argument("--recipe", choices=RECIPES, help="the model's (default: digits, for other data cifar10)")
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of weights and batches (default: 0)")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    try:
        recipe = RECIPES[given.recipe or (DIGITS if given.data == DIGITS else "cifar10")]
        recipe = config.build(Recipe, config.settings(recipe) | ({"steps": given.steps} if given.steps else {}), "recipe")
        parts = split(read_pictures(given.data))
        with Progress() as progress:
            made = retrain(
                given.target,
                given.out,
                model=given.model,
                parts=parts,
                seed=given.seed,
                recipe=recipe,
                device=given.device,
                progress=progress,
            )
    except ExpungeError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"run     {made.folder}\nnext: expunge eval {made.folder}")


if __name__ == "__main__":
    main()
