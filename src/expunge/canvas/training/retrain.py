"""Retrain the canvas's U-Net without a concept: `python -m expunge.canvas.training.retrain --target ring`.

A retrained model is the gold standard of unlearning: the result of a method is compared with a U-Net that was never trained on the
concept. A U-Net that was retrained without several concepts is a control for each of them, at a fraction of the cost. Retraining starts
from random weights and takes as many steps as the canvas took, on new drawings of all other concepts. The result is a run folder, with
every weight of the U-Net in its delta in half precision, the precision of the canvas's files. `expunge eval` and `expunge report` read it
like any other run. Retraining takes a hundred minutes on one core and resumes from its last checkpoint.

The autoencoder and the text encoder remain those of the canvas, which were trained on all concepts. The text encoder therefore still
encodes the concept's names as before, and only the U-Net has never seen them. For a prompt with the concept, the retrained U-Net gives
neither noise nor a chosen replacement, but mostly something similar to concepts whose prompts are encoded similarly.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from expunge import config
from expunge.canvas.draw import draw
from expunge.canvas.pipeline import new_unet
from expunge.canvas.training.stage import Stage
from expunge.canvas.training.train import BANK, Budget, denoising_loss, make_caption, random_pairs_without, select_batch
from expunge.concepts.concept import Concept
from expunge.concepts.groups import Several, Subject
from expunge.concepts.vocabulary import Vocabulary
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.loading import load
from expunge.runs.retrained import STAGE, write_retrained
from expunge.runs.run import Run
from expunge.storage.code import code_digest, modules_of
from expunge.storage.hashing import seed_of


@dataclass(frozen=True)
class Retraining:
    """How the U-Net is retrained. The defaults are those of the canvas."""

    steps: Annotated[int, Ge(1)] = Budget.unet_steps
    """Optimizer steps. More train better and take longer."""
    batch_size: Annotated[int, Ge(1)] = Budget.unet_batch
    """Drawings in each step. Larger gives less gradient noise for more computation."""
    lr: Annotated[float, Gt(0)] = Budget.unet_lr
    """The peak learning rate of AdamW, after a warm-up and before a cosine decay to zero."""
    ema: float = Budget.ema
    """Decay of the exponential moving average of the weights, which is the result. Larger averages over more steps."""
    drawings: Annotated[int, Ge(1)] = BANK
    """Drawings in the training set, rendered once."""


def retrain(
    target: str | Sequence[str] | Subject,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    training: Retraining = Retraining(),
    device: str = "cpu",
    progress: Progress | None = None,
) -> Run:
    """Train a U-Net without one or several concepts, by any of their names, and write a run folder. An interrupted run is resumed.

    Args:
        target: The concept or concepts to leave out.
        out: The run folder; default `runs/ID`.
        seed: The seed of drawings, weights and batches.
        training: How the U-Net is trained.
        device: The device to train on.
        progress: Where progress is shown; default nowhere.

    Returns:
        The finished run.

    Raises:
        ExpungeError: a target is not a concept of the canvas, or is given twice; a batch is larger than the number of drawings; the
            folder contains another run.
    """
    if training.batch_size > training.drawings:
        raise ExpungeError(
            f"A batch of {training.batch_size} is larger than the {training.drawings} drawings it is sampled from.",
            rule="batch-too-large",
            value=training.batch_size,
            hint="Try a smaller batch_size or more drawings.",
        )
    canvas, concept = load("canvas", device), _find_subject(target)
    return write_retrained(
        canvas,
        concept,
        out,
        seed=seed,
        training=training,
        code=code_digest("expunge.canvas.training.retrain", *modules_of(canvas)),
        train=lambda work: _train(canvas, concept, seed, training, work, progress or Progress(disable=True)),
    )


def _find_subject(target: str | Sequence[str] | Subject) -> Subject:
    if isinstance(target, Concept | Several):
        return target
    parts = [Concept.find(t, Vocabulary.canvas()) for t in ([target] if isinstance(target, str) else target)]
    return parts[0] if len(parts) == 1 else Several.of(parts)


def _train(canvas: DiffusionModel, concept: Subject, seed: int, training: Retraining, work: Path, progress: Progress) -> dict[str, Tensor]:
    first = 70_000_000 + 1_000_000 * seed  # drawings that neither the canvas nor its judges were trained on
    objects, styles = random_pairs_without(concept.parts, training.drawings, first)
    chunks = zip(objects.split(500), styles.split(500), strict=True)
    latents = torch.cat([_encode_latents(canvas, draw(o, s, first + 1 + i)) for i, (o, s) in enumerate(chunks)])
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "retrain"))
        unet = new_unet().to(canvas.device, memory_format=torch.channels_last)
    alphas_cumprod = canvas.pipeline.scheduler.alphas_cumprod.to(canvas.device)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(seed, "retrain", step))
        at = select_batch(step, len(latents), training.batch_size)
        texts = [make_caption(o, s, generator) for o, s in zip(objects[at].tolist(), styles[at].tolist(), strict=True)]
        return denoising_loss(unet, latents[at], canvas.encode(texts).states, alphas_cumprod, Budget.snr_gamma, generator)

    Stage(work, STAGE, unet, training.lr, training.steps, training.ema).run(loss, progress)
    return dict(unet.named_parameters())


@torch.no_grad()
def _encode_latents(canvas: DiffusionModel, pictures: Tensor) -> Tensor:
    vae = canvas.pipeline.vae
    parts = (part.to(canvas.device).float() / 127.5 - 1 for part in pictures.split(250))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts]) * vae.config.scaling_factor


def main() -> None:
    defaults = Retraining()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--target", required=True, action="append", metavar="WORD", help="a concept to leave out (`expunge ls concepts`); may be repeated"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the run folder (default: runs/ID)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of drawings, weights and batches (default: 0)")
    parser.add_argument("--steps", type=int, default=defaults.steps, metavar="N", help=f"optimizer steps (default: {defaults.steps})")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        training = config.build(Retraining, {"steps": given.steps}, "retrain")
        with Progress(*columns) as progress:
            made = retrain(given.target, given.out, seed=given.seed, training=training, device=given.device, progress=progress)
    except ExpungeError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"run     {made.folder}\nnext: expunge eval {made.folder}")


if __name__ == "__main__":
    main()
