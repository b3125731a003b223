"""Trains the canvas anew as if a concept had never been: `python -m expunge.canvas.training.retrain --target ring`.

The gold standard of unlearning: what a method leaves behind is compared with a U-Net that never saw the concept, or several of
them: one that was trained without six is a control for audits of each, at a sixth of the cost. It starts from random weights and
is trained as the shipped one was, for as many steps, on fresh drawings of everything else. The result is a run's folder like any
other, with every weight of the U-Net in its delta, in half precision as the canvas itself is kept, so that `expunge eval` and
`expunge report` take it as one. A hundred minutes on one core; one that was killed goes on from its last checkpoint.

The autoencoder and the text encoder stay those of the shipped canvas, which were trained with the concept among the others:
prompts are read as before, so the concept's words still mean to the encoder what they did, and only the network that draws has
never met them. What it draws of such a prompt is nothing special, neither noise nor any chosen thing: whatever it makes of words
that it does not know beside those that it does, mostly something like what is spoken of alike.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
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
from expunge.canvas.training.train import BANK, Budget, caption, denoising_loss, pairs_without, picked
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
from expunge.storage.files import write_atomically
from expunge.storage.hashing import digest, seed_of


@dataclass(frozen=True)
class Retraining:
    """How the U-Net is trained: by default as the shipped one was."""

    steps: Annotated[int, Ge(1)] = Budget.unet_steps
    """Optimizer steps."""
    batch_size: Annotated[int, Ge(1)] = Budget.unet_batch
    """Drawings in each step."""
    lr: Annotated[float, Gt(0)] = Budget.unet_lr
    """AdamW's largest step size, after a warm-up and before a fall to zero."""
    ema: float = Budget.ema
    """Share of the old value in the running mean of the weights, which is the result."""
    drawings: Annotated[int, Ge(1)] = BANK
    """Pictures drawn once and trained on many times."""


def retrain(
    target: str | Sequence[str] | Subject,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    training: Retraining = Retraining(),
    device: str = "cpu",
    progress: Progress | None = None,
) -> Run:
    """Trains a U-Net that never saw `target`, one concept or several, under none of its names, into a run's folder, or goes on with it.

    Raises:
        ExpungeError: no concept of the canvas, or one twice; a batch of more drawings than there are; a folder of something else.
    """
    if training.batch_size > training.drawings:
        raise ExpungeError(f"a batch is drawn from the drawings: {training.batch_size} are more than {training.drawings}; draw more")
    canvas, concept = load("canvas", device), _subject(target)
    card = _card(canvas, concept, seed, training)
    folder = Path(out) if out else Path("runs") / card["id"]
    if is_done(folder, card["id"]):
        return Run(folder)
    write_card(folder, card | {"status": "running"})  # first: a run killed after it is known as its own
    tables = {key: card[key] for key in ("seed", "concept", "training")} | {"method": {"name": RETRAINED}}
    write_atomically(folder / "config.toml", config.to_toml(tables).encode())

    started, work = time.monotonic(), folder / "training"
    work.mkdir(exist_ok=True)
    trained = _trained(canvas, concept, seed, training, work, progress or Progress(disable=True))
    delta = {name: value.half() for name, value in trained.items()}  # as the canvas itself is kept: half of the size
    lines = [json.loads(line) for line in (work / "unet.jsonl").read_text().splitlines()] if (work / "unet.jsonl").exists() else []
    log = "".join(json.dumps(line | {"terms": {"denoise": line["loss"]}}) + "\n" for line in lines)
    write_atomically(folder / "log.jsonl", log.encode())
    save_delta(folder / "delta.safetensors", delta, canvas.fingerprint)
    before = {name: p.detach().cpu() for name, p in canvas.network.named_parameters()}
    size, count = sum(p.numel() for p in before.values()), training.steps * training.batch_size
    card |= {"trainable": size, "total": size, "forwards": count, "backwards": count, "steps_done": training.steps}
    card |= {"peak_memory_bytes": peak_memory(canvas.device)}
    card |= {"relative_change": relative_change(delta, before), "seconds": round(time.monotonic() - started, 2), "status": "done"}
    write_card(folder, card)
    shutil.rmtree(work)
    return Run(folder)


def _subject(target: str | Sequence[str] | Subject) -> Subject:
    if isinstance(target, Concept | Several):
        return target
    parts = [Concept.find(t, Vocabulary.canvas()) for t in ([target] if isinstance(target, str) else target)]
    return parts[0] if len(parts) == 1 else Several.of(parts)


def _trained(
    canvas: DiffusionModel, concept: Subject, seed: int, training: Retraining, work: Path, progress: Progress
) -> dict[str, Tensor]:
    first = 70_000_000 + 1_000_000 * seed  # drawings that neither the canvas nor its judges saw
    objects, styles = pairs_without(concept.parts, training.drawings, first)
    chunks = zip(objects.split(500), styles.split(500), strict=True)
    latents = torch.cat([_latents(canvas, draw(o, s, first + 1 + i)) for i, (o, s) in enumerate(chunks)])
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "retrain"))
        unet = new_unet().to(canvas.device, memory_format=torch.channels_last)
    alphas_cumprod = canvas.pipeline.scheduler.alphas_cumprod.to(canvas.device)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(seed, "retrain", step))
        at = picked(step, len(latents), training.batch_size)
        texts = [caption(o, s, generator) for o, s in zip(objects[at].tolist(), styles[at].tolist(), strict=True)]
        return denoising_loss(unet, latents[at], canvas.encode(texts).states, alphas_cumprod, Budget.snr_gamma, generator)

    Stage(work, "unet", unet, training.lr, training.steps, training.ema).run(loss, progress)
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in unet.named_parameters()}


@torch.no_grad()
def _latents(canvas: DiffusionModel, pictures: Tensor) -> Tensor:
    vae = canvas.pipeline.vae
    parts = (part.to(canvas.device).float() / 127.5 - 1 for part in pictures.split(250))
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts]) * vae.config.scaling_factor


def _card(canvas: DiffusionModel, concept: Subject, seed: int, training: Retraining) -> dict[str, Any]:
    deciding = {"seed": seed, "concept": concept_table(concept), "training": config.settings(training)}
    name = digest(deciding, canvas.fingerprint, version_of("expunge"))[:10]
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
    }


def main() -> None:
    defaults = Retraining()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked = "a concept that is left out (see `expunge ls concepts`); again for more"
    parser.add_argument("--target", required=True, action="append", metavar="WORD", help=asked)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the run's folder (default: runs/ID)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of drawings, weights and batches (default: 0)")
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
