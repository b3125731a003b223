"""Measures the shipped canvas: `python -m expunge.canvas.training.quality`. Writes `weights/card.json` beside the weights.

Shares that the judges recognise, each with n and a 95 % interval: of fresh drawings, of their reconstructions by the
autoencoder, and of the pipeline's own pictures over all prompts, by main words and by synonyms.
"""

import argparse
import json
from dataclasses import asdict

import torch
from rich.progress import track
from torch import Tensor

from expunge.canvas import WEIGHTS
from expunge.canvas.draw import draw
from expunge.canvas.judge import Judge
from expunge.canvas.prompts import OBJECTS, STYLES, prompt
from expunge.canvas.training.train import Budget, random_pairs
from expunge.evaluation.statistics import wilson
from expunge.models.base import DiffusionModel
from expunge.models.loading import load
from expunge.storage.files import write_atomically


def recognised(judge: Judge, pictures: Tensor, objects: Tensor, styles: Tensor) -> dict[str, dict]:
    """Shares of objects and styles that the judge recognises."""
    verdicts = [judge(chunk) for chunk in pictures.split(200)]
    out = {}
    for head, truth in (("objects", objects), ("styles", styles)):
        hits = int(torch.cat([getattr(v, head).argmax(1) for v in verdicts]).eq(truth).sum())
        interval = wilson(hits, len(truth))
        out[head] = {"share": hits / len(truth), "ci_low": interval.low, "ci_high": interval.high, "n": len(truth)}
    return out


@torch.no_grad()
def reconstructed(canvas: DiffusionModel, pictures: Tensor) -> Tensor:
    vae = canvas.pipeline.vae
    factor = vae.config.scaling_factor
    return torch.cat([canvas.decode(vae.encode(p.float() / 127.5 - 1).latent_dist.mean * factor) for p in pictures.split(100)])


def generated(canvas: DiffusionModel, which: int, seeds: int, title: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of every object in every style, by main words (`which` 0) or synonyms (1)."""
    pairs = [(o, s, k) for k in range(seeds) for o in range(len(OBJECTS)) for s in range(len(STYLES))]
    texts = [prompt(OBJECTS[o].names[which], STYLES[s].names[which]) for o, s, _ in pairs]
    starts = track(range(0, len(pairs), 40), title)
    pictures = [canvas.sample(texts[i : i + 40], [1_000_000 * (which + 1) + j for j in range(i, min(i + 40, len(texts)))]) for i in starts]
    objects, styles, _ = torch.tensor(pairs).unbind(1)
    return torch.cat(pictures), objects, styles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="pictures of each prompt")
    seeds = parser.parse_args().seeds
    canvas = load("canvas")
    objects, styles = random_pairs(4000, 50_000_000)
    fresh = torch.cat([draw(o, s, 50_000_001 + i) for i, (o, s) in enumerate(zip(objects.split(500), styles.split(500), strict=True))])
    again = reconstructed(canvas, fresh)
    words, synonyms = generated(canvas, 0, seeds, "main words"), generated(canvas, 1, seeds, "synonyms")
    quality = {}
    for name in ("main", "second"):
        judge = Judge.load(name)  # type: ignore[arg-type]
        quality[name] = {
            "fresh drawings": recognised(judge, fresh, objects, styles),
            "reconstructions": recognised(judge, again, objects, styles),
            "generated, main words": recognised(judge, *words),
            "generated, synonyms": recognised(judge, *synonyms),
        }
    card = {"sampler": asdict(canvas.default_sampler), "training": asdict(Budget()), "fingerprint": canvas.fingerprint, "judges": quality}
    write_atomically(WEIGHTS / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    print(json.dumps(quality, indent=1))


if __name__ == "__main__":
    main()
