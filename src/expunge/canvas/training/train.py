"""Trains the canvas from nothing: `python -m expunge.canvas.training.train`.

Four stages, each resumable: the two judges, the autoencoder, the text encoder with the U-Net, and the export to a diffusers
folder. A stage that is done is skipped; one that was killed goes on from its last checkpoint. Batches are functions of the
step, so a resumed training sees what an uninterrupted one would have seen. Progress stands in `<work>/<stage>.jsonl`.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
"""Pictures drawn once and trained on many times: about 150 of each object in each style."""


@dataclass(frozen=True)
class Budget:
    """Steps and rates of the stages. The defaults were measured on two cores (see `weights/card.json`)."""

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
    """Objects at random; styles at random with twice the share of plain, which `a {object}` has to itself."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.randint(len(OBJECTS), (count,), generator=generator)
    styles = torch.randint(len(STYLES) + 2, (count,), generator=generator).clamp(max=PLAIN)
    return objects, styles


def pairs_without(concepts: Sequence[Concept], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Objects and styles of `count` drawings, in the shares that the canvas is trained on but for what is left out.

    Raises:
        ExpungeError: hardly anything is left to draw.
    """
    objects, styles = random_pairs(8 * count, seed)
    kept = torch.ones_like(objects, dtype=torch.bool)
    for concept in concepts:
        shown, labels = (objects, OBJECT_LABELS) if concept.kind == "object" else (styles, STYLE_LABELS)
        kept &= shown != labels.index(concept.member.name)
    if kept.sum() < count:
        left = f"{int(kept.sum())} of {len(kept)} without {' + '.join(c.target for c in concepts)}"
        raise ExpungeError(f"a canvas is trained on {count} drawings: {left} are too few; leave out fewer concepts")
    return objects[kept][:count], styles[kept][:count]


def draw_many(count: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    objects, styles = random_pairs(count, seed)
    chunks = [draw(o, s, seed + 1 + i) for i, (o, s) in enumerate(zip(objects.split(500), styles.split(500), strict=True))]
    return torch.cat(chunks).to(device), objects.to(device), styles.to(device)


def picked(step: int, count: int, batch: int) -> Tensor:
    """Indices of a step's batch: a fresh permutation each epoch, a function of the step alone."""
    epoch, place = divmod(step * batch, count - count % batch)
    return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))[place : place + batch]


def caption(obj: int, style: int, generator: torch.Generator) -> str:
    """One of the grammar's forms that is true of the picture, with either name of each word."""
    chance = torch.rand(3, generator=generator).tolist()
    o = OBJECTS[obj].names[chance[1] < 0.5]
    s = None if style == PLAIN else STYLES[style].names[chance[2] < 0.5]
    if chance[0] < 0.10:
        return prompt()
    if chance[0] < 0.25 and s is not None:
        return prompt(style=s)
    return prompt(o, s)


def blurred(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Training pictures of a judge, slightly blurred and noisy: what an autoencoder does to a drawing must not confuse it."""
    x = pictures.float()
    share = torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    noise = torch.randn(x.shape, generator=generator).to(x.device) * 10 * torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device)
    return (x + 0.7 * share * (soft - x) + noise).clamp(0, 255)


def train_judge(name: JudgeName, work: Path, budget: Budget, device: torch.device, progress: Progress) -> Judge:
    judge = Judge(name).to(device, memory_format=torch.channels_last)
    stage = Stage(work, f"judge-{name}", judge, budget.judge_lr, budget.judge_steps)
    if not stage.done.exists():
        bank, objects, styles = draw_many(BANK, 10_000_000 if name == "main" else 20_000_000, device)

    def loss(step: int) -> Tensor:
        at = picked(step, BANK, budget.judge_batch)
        verdict = judge(blurred(bank[at], torch.Generator().manual_seed(step)))
        return sum(
            F.cross_entropy(logits, truth[at], label_smoothing=0.02)
            for logits, truth in ((verdict.objects, objects), (verdict.styles, styles))
        )  # type: ignore[return-value]

    stage.run(loss, progress)
    return judge.eval().requires_grad_(False)


def judged(judge: Judge, pictures: Tensor, objects: Tensor, styles: Tensor) -> dict[str, float]:
    """Shares of objects and of styles that the judge recognises."""
    verdicts = [judge(chunk) for chunk in pictures.split(200)]
    right = [
        torch.cat([getattr(v, head).argmax(1) for v in verdicts]).eq(truth).float().mean().item()
        for head, truth in (("objects", objects), ("styles", styles))
    ]
    return {"objects": right[0], "styles": right[1]}


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def to_picture(x: Tensor) -> Tensor:
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def train_vae(work: Path, budget: Budget, device: torch.device, progress: Progress, bank: Tensor, judge: Judge) -> AutoencoderKL:
    vae = new_vae().to(device, memory_format=torch.channels_last)
    fresh, objects, styles = draw_many(800, 40_000_000, device)

    def loss(step: int) -> Tensor:
        x = bank[picked(step, BANK, budget.vae_batch)].float() / 127.5 - 1
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        sharp = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x), strict=True))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return (y - x).abs().mean() + F.mse_loss(y, x) + sharp + budget.kl_weight * kl

    def probe() -> dict[str, float]:
        again = [to_picture(vae(chunk.float() / 127.5 - 1).sample) for chunk in fresh.split(100)]
        return judged(judge, torch.cat(again), objects, styles)

    Stage(work, "vae", vae, budget.vae_lr, budget.vae_steps).run(loss, progress, probe)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode(vae: AutoencoderKL, bank: Tensor) -> Tensor:
    """Latent means of the bank, scaled to unit variance (the factor is kept in the autoencoder's config)."""
    latents = torch.cat([vae.encode(c.float() / 127.5 - 1).latent_dist.mean for c in bank.split(250)])
    factor = 1 / latents.std().item()
    vae.register_to_config(scaling_factor=round(factor, 5))
    return latents * vae.config.scaling_factor


def denoising_loss(
    unet: UNet2DConditionModel, x_0: Tensor, cond: Tensor, alphas_cumprod: Tensor, snr_gamma: float, generator: torch.Generator
) -> Tensor:
    """The squared error of the predicted noise, weighted by min(SNR, snr_gamma) / SNR (arXiv 2303.09556)."""
    count, device = len(x_0), x_0.device
    # Stratified timesteps: one from each of `batch` equal slices, for a gradient of lower variance.
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
    """The text encoder and the U-Net, trained together."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text, self.unet = text, unet


def train_unet(
    work: Path, budget: Budget, device: torch.device, progress: Progress,
    latents: Tensor, objects: Tensor, styles: Tensor, vae: AutoencoderKL, judge: Judge,
) -> StableDiffusionPipeline:  # fmt: skip
    tokenizer = write_tokenizer(work / "tokenizer")
    net = Denoising(new_text_encoder(tokenizer), new_unet()).to(device, memory_format=torch.channels_last)
    pipeline = assemble(vae, net.text, tokenizer, net.unet)
    alphas_cumprod = pipeline.scheduler.alphas_cumprod.to(device)
    ids_of = dict(_tokenized(tokenizer))

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        at = picked(step, len(latents), budget.unet_batch)
        texts = [caption(o, s, generator) for o, s in zip(objects[at].tolist(), styles[at].tolist(), strict=True)]
        distinct = list(dict.fromkeys(texts))
        states = net.text(torch.stack([ids_of[t] for t in distinct]).to(device)).last_hidden_state
        cond = states[[distinct.index(t) for t in texts]]
        return denoising_loss(net.unet, latents[at], cond, alphas_cumprod, budget.snr_gamma, generator)

    def probe() -> dict[str, float]:
        pairs = torch.tensor([(o, s) for o in range(len(OBJECTS)) for s in range(len(STYLES))])
        texts = [prompt(OBJECTS[o].name, STYLES[s].name) for o, s in pairs.tolist()]
        return judged(judge, sample(pipeline, texts, seed=0), *(p.to(device) for p in pairs.unbind(1)))

    Stage(work, "unet", net, budget.unet_lr, budget.unet_steps, budget.ema).run(loss, progress, probe)
    net.eval().requires_grad_(False)
    return pipeline


def _tokenized(tokenizer: CLIPTokenizer) -> Iterator[tuple[str, Tensor]]:
    objects = [None, *(n for o in OBJECTS for n in o.names)]
    styles = [None, *(n for s in STYLES for n in s.names)]
    texts = [prompt(o, s) for o in objects for s in styles]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    return zip(texts, ids, strict=True)


def export(name: JudgeName, judge: Judge) -> None:
    """Ships a judge, in half precision."""
    halved = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    write_tensors(WEIGHTS / f"judge-{name}.safetensors", halved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("canvas-training"), help="checkpoints, logs, and the finished parts")
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
        pipeline = train_unet(work, budget, device, progress, latents, objects, styles, vae, judge)
        pipeline.to("cpu", torch.float16).save_pretrained(WEIGHTS / "pipeline", safe_serialization=True)
        export("main", judge)
        export("second", train_judge("second", work, budget, device, progress))
    print(f"Written to {WEIGHTS}; measure it with: python -m expunge.canvas.training.quality")


if __name__ == "__main__":
    main()
