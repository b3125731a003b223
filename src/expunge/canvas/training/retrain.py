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
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

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
from expunge.concepts.tables import concept_table, slug
from expunge.concepts.vocabulary import Vocabulary
from expunge.config import version_of
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.models.delta import relative_change, save_delta
from expunge.models.loading import load
from expunge.names import RETRAINED
from expunge.runs.card import is_done, model_table, peak_memory, versions, write_card
from expunge.runs.run import Run
from expunge.storage.code import code_digest, modules_of
from expunge.storage.files import write_atomically, write_lines
from expunge.storage.hashing import digest, seed_of
from expunge.storage.lock import alone_in


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
    card = _card(canvas, concept, seed, training)
    folder = Path(out) if out else Path("runs") / card["id"]
    if is_done(folder, card["id"], asked=_tables(card)):
        return Run(folder)
    with alone_in(folder):
        if not is_done(folder, card["id"]):  # another process may have finished it meanwhile
            _carry_out(canvas, concept, card, training, folder, progress or Progress(disable=True))
    return Run(folder)


def _carry_out(
    canvas: DiffusionModel, concept: Subject, card: dict[str, Any], training: Retraining, folder: Path, progress: Progress
) -> None:
    """Train into the folder, or resume from its last checkpoint."""
    write_card(folder, card | {"status": "running"})  # written first, so that an interrupted run is recognised
    write_atomically(folder / "config.toml", config.to_toml(_tables(card)).encode())

    started, work = time.monotonic(), folder / "training"
    work.mkdir(exist_ok=True)
    trained = _train(canvas, concept, card["seed"], training, work, progress)
    delta = {name: value.half() for name, value in trained.items()}  # the precision of the canvas's files
    lines = [json.loads(line) for line in (work / "unet.jsonl").read_text().splitlines()] if (work / "unet.jsonl").exists() else []
    write_lines(folder / "log.jsonl", (line | {"terms": {"denoise": line["loss"]}} for line in lines))
    save_delta(folder / "delta.safetensors", delta, canvas.fingerprint)
    before = {name: p.detach().cpu() for name, p in canvas.network.named_parameters()}
    size, count = sum(p.numel() for p in before.values()), training.steps * training.batch_size
    card |= {"trainable": size, "total": size, "forwards": count, "backwards": count, "steps_done": training.steps}
    card |= {"peak_memory_bytes": peak_memory(canvas.device)}
    card |= {"relative_change": relative_change(delta, before), "seconds": round(time.monotonic() - started, 2), "status": "done"}
    write_card(folder, card)
    shutil.rmtree(work)


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

    Stage(work, "unet", unet, training.lr, training.steps, training.ema).run(loss, progress)
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in unet.named_parameters()}


@torch.no_grad()
def _encode_latents(canvas: DiffusionModel, pictures: Tensor) -> Tensor:
    vae = canvas.pipeline.vae
    parts = (part.to(canvas.device).float() / 127.5 - 1 for part in pictures.split(250))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts]) * vae.config.scaling_factor


def _tables(card: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.toml`."""
    return {key: card[key] for key in ("seed", "concept", "training")} | {"method": {"name": RETRAINED}}


def _card(canvas: DiffusionModel, concept: Subject, seed: int, training: Retraining) -> dict[str, Any]:
    deciding = {"seed": seed, "concept": concept_table(concept), "training": config.settings(training)}
    code = code_digest("expunge.canvas.training.retrain", *modules_of(canvas))
    name = digest(deciding, canvas.fingerprint, version_of("expunge"), code)[:10]
    return {
        "id": f"retrain-{slug(concept)}-{name}",
        "method": RETRAINED,
        "config": {},
        **deciding,
        "model": model_table(canvas),
        "scope": "full",
        "device": str(canvas.device),
        "dtype": "fp32",
        "versions": versions(),
        "code": code,
    }


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
