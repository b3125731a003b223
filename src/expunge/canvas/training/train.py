"""Train the canvas from random weights: `python -m expunge.canvas.training.train`.

The stages are the two judges, the autoencoder, and the text encoder with the U-Net. The results are exported to a diffusers folder.
A finished stage is skipped and an interrupted one resumes from its last checkpoint. Batches are functions of the step, so a resumed
training has the same batches as an uninterrupted one. Each stage logs to `<work>/<stage>.jsonl`.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from expunge.canvas import WEIGHTS
from expunge.canvas.draw import draw
from expunge.canvas.judge import Judge, JudgeName
from expunge.canvas.pipeline import assemble, new_text_encoder, new_unet, new_vae, sample, write_tokenizer
from expunge.canvas.prompts import OBJECT_LABELS, OBJECTS, PLAIN, STYLE_LABELS, STYLES, prompt
from expunge.canvas.training.stage import Stage
from expunge.concepts.concept import Concept
from expunge.errors import ExpungeError
from expunge.storage.tensors import write_tensors

BANK = 33_000
"""Drawings in the training set, rendered once: about 150 of each object in each style."""


@dataclass(frozen=True)
class Budget:
    """Steps, batch sizes and learning rates of the stages. `weights/card.json` has the quality that the defaults give."""

    judge_steps: int = 1800
    judge_batch: int = 96
    judge_lr: float = 2e-3
    vae_steps: int = 5000
    vae_batch: int = 16
    vae_lr: float = 1.5e-3
    kl_weight: float = 2e-4
    unet_steps: int = 3200
    unet_batch: int = 64
    unet_lr: float = 1e-3
    snr_gamma: float = 5.0
    ema: float = 0.998


def random_pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random objects and styles. Plain has twice the share of a style, because the prompts `a {object}` have no other."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.randint(len(OBJECTS), (count,), generator=generator)
    styles = torch.randint(len(STYLES) + 2, (count,), generator=generator).clamp(max=PLAIN)
    return objects, styles


def random_pairs_without(concepts: Sequence[Concept], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random objects and styles of `count` drawings as of `random_pairs`, without those of some concepts.

    Raises:
        ExpungeError: fewer than an eighth of all pairs is left.
    """
    objects, styles = random_pairs(8 * count, seed)
    kept = torch.ones_like(objects, dtype=torch.bool)
    for concept in concepts:
        shown, labels = (objects, OBJECT_LABELS) if concept.kind == "object" else (styles, STYLE_LABELS)
        kept &= shown != labels.index(concept.member.name)
    if kept.sum() < count:
        targets = " + ".join(c.target for c in concepts)
        raise ExpungeError(
            f"Only {int(kept.sum())} of {len(kept)} random drawings are without {targets}, but {count} are needed.",
            rule="too-few-drawings",
            value=int(kept.sum()),
            hint="Try to leave out fewer concepts.",
        )
    return objects[kept][:count], styles[kept][:count]


def draw_many(count: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Render `count` random drawings. Returns images, objects and styles."""
    objects, styles = random_pairs(count, seed)
    chunks = [draw(o, s, seed + 1 + i) for i, (o, s) in enumerate(zip(objects.split(500), styles.split(500), strict=True))]
    return torch.cat(chunks).to(device), objects.to(device), styles.to(device)


def select_batch(step: int, count: int, batch: int) -> Tensor:
    """The indices of a step's batch out of `count`. Each epoch has a new permutation, which depends on the step alone."""
    epoch, place = divmod(step * batch, count - count % batch)
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))[place : place + batch]


def make_caption(obj: int, style: int, generator: torch.Generator) -> str:
    """Fill a random prompt template that is true of the drawing, with a random name of each word."""
    chance = torch.rand(3, generator=generator).tolist()
    o = OBJECTS[obj].names[chance[1] < 0.5]
    s = None if style == PLAIN else STYLES[style].names[chance[2] < 0.5]
    if chance[0] < 0.10:
        return prompt()
    if chance[0] < 0.25 and s is not None:
        return prompt(style=s)
    return prompt(o, s)


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Add a random amount of blur and noise to training drawings of a judge, so that it tolerates an autoencoder's errors."""
    x = pictures.float()
    share = torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    noise = torch.randn(x.shape, generator=generator).to(x.device) * 10 * torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device)
    return (x + 0.7 * share * (soft - x) + noise).clamp(0, 255)


def train_judge(name: JudgeName, work: Path, budget: Budget, device: torch.device, progress: Progress) -> Judge:
    """Train a judge on its own drawings."""
    judge = Judge(name).to(device, memory_format=torch.channels_last)
    stage = Stage(work, f"judge-{name}", judge, budget.judge_lr, budget.judge_steps)
    if not stage.done.exists():
        bank, objects, styles = draw_many(BANK, 10_000_000 if name == "main" else 20_000_000, device)

    def loss(step: int) -> Tensor:
        at = select_batch(step, BANK, budget.judge_batch)
        verdict = judge(augment(bank[at], torch.Generator().manual_seed(step)))
        return sum(
            F.cross_entropy(logits, truth[at], label_smoothing=0.02)
            for logits, truth in ((verdict.objects, objects), (verdict.styles, styles))
        )  # type: ignore[return-value]

    stage.run(loss, progress)
    return judge.eval().requires_grad_(False)


def measure_recognition(judge: Judge, pictures: Tensor, objects: Tensor, styles: Tensor) -> dict[str, float]:
    """The shares of objects and of styles that the judge recognises."""
    verdicts = [judge(chunk) for chunk in pictures.split(200)]
    right = [
        torch.cat([getattr(v, head).argmax(1) for v in verdicts]).eq(truth).float().mean().item()
        for head, truth in (("objects", objects), ("styles", styles))
    ]
    return {"objects": right[0], "styles": right[1]}


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels, horizontally and vertically."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def to_image(x: Tensor) -> Tensor:
    """Convert values in -1..1 to 8 bit."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def train_vae(work: Path, budget: Budget, device: torch.device, progress: Progress, bank: Tensor, judge: Judge) -> AutoencoderKL:
    """Train the autoencoder on a bank of drawings, on absolute, squared and edge errors and a KL term."""
    vae = new_vae().to(device, memory_format=torch.channels_last)
    fresh, objects, styles = draw_many(800, 40_000_000, device)

    def loss(step: int) -> Tensor:
        x = bank[select_batch(step, BANK, budget.vae_batch)].float() / 127.5 - 1
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        sharp = sum((a - b).abs().mean() for a, b in zip(differences(y), differences(x), strict=True))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return (y - x).abs().mean() + F.mse_loss(y, x) + sharp + budget.kl_weight * kl

    def probe() -> dict[str, float]:
        again = [to_image(vae(chunk.float() / 127.5 - 1).sample) for chunk in fresh.split(100)]
        return measure_recognition(judge, torch.cat(again), objects, styles)

    Stage(work, "vae", vae, budget.vae_lr, budget.vae_steps).run(loss, progress, probe)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(vae: AutoencoderKL, bank: Tensor) -> Tensor:
    """Encode the bank to latent means of unit variance. The scaling factor is stored in the autoencoder's config."""
    latents = torch.cat([vae.encode(c.float() / 127.5 - 1).latent_dist.mean for c in bank.split(250)])
    factor = 1 / latents.std().item()
    vae.register_to_config(scaling_factor=round(factor, 5))
    return latents * vae.config.scaling_factor


def denoising_loss(
    unet: Callable[..., Any], x_0: Tensor, cond: Tensor, alphas_cumprod: Tensor, snr_gamma: float, generator: torch.Generator
) -> Tensor:
    """The squared error of the predicted noise, weighted by min(SNR, snr_gamma) / SNR (arXiv 2303.09556)."""
    count, device = len(x_0), x_0.device
    # Stratified timesteps, one from each of `count` equal slices, reduce the variance of the gradient.
    slices = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    t = (slices[torch.randperm(count, generator=generator)] * 1000).long().to(device)
    noise = torch.randn(x_0.shape, generator=generator).to(device)
    abar = alphas_cumprod[t][:, None, None, None]
    x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * noise
    snr = (abar / (1 - abar)).flatten()
    weight = snr.clamp(max=snr_gamma) / snr
    errors = (unet(x_t, t, cond).sample - noise).pow(2).mean((1, 2, 3))
    return (weight * errors).mean()


class Denoising(nn.Module):
    """The text encoder and the U-Net as one module, which are trained together."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text, self.unet = text, unet


def train_unet(
    work: Path, budget: Budget, device: torch.device, progress: Progress,
    latents: Tensor, labels: tuple[Tensor, Tensor], vae: AutoencoderKL, judge: Judge,
) -> StableDiffusionPipeline:  # fmt: skip
    """Train the text encoder and the U-Net on latents and on captions of random templates. `labels` are objects and styles."""
    objects, styles = labels
    tokenizer = write_tokenizer(work / "tokenizer")
    net = Denoising(new_text_encoder(tokenizer), new_unet()).to(device, memory_format=torch.channels_last)
    pipeline = assemble(vae, net.text, tokenizer, net.unet)
    alphas_cumprod = pipeline.scheduler.alphas_cumprod.to(device)
    ids_of = dict(_tokenize_all(tokenizer))

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        at = select_batch(step, len(latents), budget.unet_batch)
        texts = [make_caption(o, s, generator) for o, s in zip(objects[at].tolist(), styles[at].tolist(), strict=True)]
        distinct = list(dict.fromkeys(texts))
        states = net.text(torch.stack([ids_of[t] for t in distinct]).to(device)).last_hidden_state
        cond = states[[distinct.index(t) for t in texts]]
        return denoising_loss(net.unet, latents[at], cond, alphas_cumprod, budget.snr_gamma, generator)

    def probe() -> dict[str, float]:
        pairs = torch.tensor([(o, s) for o in range(len(OBJECTS)) for s in range(len(STYLES))])
        texts = [prompt(OBJECTS[o].name, STYLES[s].name) for o, s in pairs.tolist()]
        return measure_recognition(judge, sample(pipeline, texts, seed=0), *(p.to(device) for p in pairs.unbind(1)))

    Stage(work, "unet", net, budget.unet_lr, budget.unet_steps, budget.ema).run(loss, progress, probe)
    net.eval().requires_grad_(False)
    return pipeline


def _tokenize_all(tokenizer: CLIPTokenizer) -> Iterator[tuple[str, Tensor]]:
    """Each caption with its token ids."""
    objects = [None, *(n for o in OBJECTS for n in o.names)]
    styles = [None, *(n for s in STYLES for n in s.names)]
    texts = [prompt(o, s) for o in objects for s in styles]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    return zip(texts, ids, strict=True)


def export(name: JudgeName, judge: Judge) -> None:
    """Write a judge to the package, in half precision."""
    halved = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    write_tensors(WEIGHTS / f"judge-{name}.safetensors", halved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("canvas-training"), help="folder of checkpoints, logs and finished parts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    work, device, budget = arguments.work, torch.device(arguments.device), Budget()
    work.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    torch.manual_seed(0)
    with Progress(*columns) as progress:
        judge = train_judge("main", work, budget, device, progress)
        bank, objects, styles = draw_many(BANK, 30_000_000, device)
        vae = train_vae(work, budget, device, progress, bank, judge)
        latents = encode(vae, bank).contiguous(memory_format=torch.channels_last)
        del bank
        pipeline = train_unet(work, budget, device, progress, latents, (objects, styles), vae, judge)
        pipeline.to("cpu", torch.float16).save_pretrained(WEIGHTS / "pipeline", safe_serialization=True)
        export("main", judge)
        export("second", train_judge("second", work, budget, device, progress))
    print(f"Written to {WEIGHTS}. Measure it with: python -m expunge.canvas.training.quality")


if __name__ == "__main__":
    main()
