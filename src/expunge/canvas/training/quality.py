"""Measure the canvas: `python -m expunge.canvas.training.quality`. Writes `weights/card.json` beside the weights.

Measures the shares of objects and styles that the judges recognise, each with n and a 95 % interval: on new drawings, on their
reconstructions by the autoencoder, and on generated images of all prompts with main names and with synonyms.
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
from expunge.storage.files import write_json


def measure_recognition(judge: Judge, pictures: Tensor, objects: Tensor, styles: Tensor) -> dict[str, dict]:
    """The shares of objects and styles that the judge recognises, with 95 % Wilson intervals."""
    verdicts = [judge(chunk) for chunk in pictures.split(200)]
    out = {}
    for head, truth in (("objects", objects), ("styles", styles)):
        hits = int(torch.cat([getattr(v, head).argmax(1) for v in verdicts]).eq(truth).sum())
        interval = wilson(hits, len(truth))
        out[head] = {"share": hits / len(truth), "ci_low": interval.low, "ci_high": interval.high, "n": len(truth)}
    return out


@torch.no_grad()
def reconstruct(canvas: DiffusionModel, pictures: Tensor) -> Tensor:
    """Encode and decode images with the canvas's autoencoder."""
    vae = canvas.pipeline.vae
    factor = vae.config.scaling_factor
    return torch.cat([canvas.decode(vae.encode(p.float() / 127.5 - 1).latent_dist.mean * factor) for p in pictures.split(100)])


def generate(canvas: DiffusionModel, which: int, seeds: int, title: str) -> tuple[Tensor, Tensor, Tensor]:
    """Sample images of every object in every style, by main name (`which` 0) or synonym (1). Returns images, objects and styles."""
    pairs = [(o, s, k) for k in range(seeds) for o in range(len(OBJECTS)) for s in range(len(STYLES))]
    texts = [prompt(OBJECTS[o].names[which], STYLES[s].names[which]) for o, s, _ in pairs]
    starts = track(range(0, len(pairs), 40), title)
    pictures = [canvas.sample(texts[i : i + 40], [1_000_000 * (which + 1) + j for j in range(i, min(i + 40, len(texts)))]) for i in starts]
    objects, styles, _ = torch.tensor(pairs).unbind(1)
    return torch.cat(pictures), objects, styles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="images of each prompt")
    seeds = parser.parse_args().seeds
    canvas = load("canvas")
    objects, styles = random_pairs(4000, 50_000_000)
    fresh = torch.cat([draw(o, s, 50_000_001 + i) for i, (o, s) in enumerate(zip(objects.split(500), styles.split(500), strict=True))])
    again = reconstruct(canvas, fresh)
    words, synonyms = generate(canvas, 0, seeds, "main words"), generate(canvas, 1, seeds, "synonyms")
    quality = {}
    for name in ("main", "second"):
        judge = Judge.load(name)  # type: ignore[arg-type]
        quality[name] = {
            "fresh drawings": measure_recognition(judge, fresh, objects, styles),
            "reconstructions": measure_recognition(judge, again, objects, styles),
            "generated, main words": measure_recognition(judge, *words),
            "generated, synonyms": measure_recognition(judge, *synonyms),
        }
    card = {"sampler": asdict(canvas.default_sampler), "training": asdict(Budget()), "fingerprint": canvas.fingerprint, "judges": quality}
    write_json(WEIGHTS / "card.json", card)
    print(json.dumps(quality, indent=1))


if __name__ == "__main__":
    main()
