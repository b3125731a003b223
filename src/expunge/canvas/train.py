"""Trains the canvas from nothing: `python -m expunge.canvas.train`.

Four stages, each resumable: the two judges, the autoencoder, the text encoder with the U-Net, and the export to a diffusers
folder. A stage that is done is skipped; one that was killed goes on from its last checkpoint. Batches are functions of the
step, so a resumed training sees what an uninterrupted one would have seen. Progress stands in `<work>/<stage>.jsonl`.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from expunge.canvas.draw import draw
from expunge.canvas.judge import Judge, JudgeName
from expunge.canvas.prompts import OBJECTS, PLAIN, STYLES, VOCABULARY, prompt

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


# --- the one training loop ---------------------------------------------------------------------------------------------


def one_cycle(step: int, steps: int, warmup: int = 150) -> float:
    """Learning-rate factor: linear warm-up, then a half cosine down to zero. The last points of style come with the decay."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Stage:
    """Runs `steps` optimizer steps of `loss(step)` over `net`, with an EMA of the weights, a log, and checkpoints."""

    def __init__(self, work: Path, name: str, net: nn.Module, lr: float, steps: int, ema: float = 0.998):
        self.work, self.name, self.net, self.lr, self.steps, self.ema = work, name, net, lr, steps, ema
        self.done = work / f"{name}.safetensors"
        self.checkpoint = work / f"{name}.checkpoint.safetensors"
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)

    def run(self, loss: Callable[[int], Tensor], progress: Progress, probe: Callable[[], dict] | None = None) -> None:
        if self.done.exists():
            self.net.load_state_dict(load_file(self.done))
            return
        start, average = self._resume()
        task = progress.add_task(self.name, total=self.steps, completed=start)
        self.net.train()
        since = time.monotonic()
        for step in range(start, self.steps):
            torch.manual_seed(step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * one_cycle(step, self.steps)
            value = loss(step)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            decay = min(self.ema, (step + 1) / (step + 10))
            for key, tensor in self.net.state_dict().items():
                if tensor.is_floating_point():
                    average[key].lerp_(tensor, 1 - decay)
                else:
                    average[key].copy_(tensor)
            progress.update(task, advance=1)
            if (step + 1) % 50 == 0:
                row = {"step": step + 1, "loss": value.item(), "seconds": round(time.monotonic() - since, 1)}
                if probe and (step + 1) % 800 == 0:
                    row |= self._probe(probe, average)
                with (self.work / f"{self.name}.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
            if (step + 1) % 250 == 0 and step + 1 < self.steps:
                self._save(step + 1, average)
        self.net.load_state_dict(average)
        _write(average, self.done)
        self.checkpoint.unlink(missing_ok=True)

    def _probe(self, probe: Callable[[], dict], average: dict[str, Tensor]) -> dict:
        trained = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(average)
        self.net.eval()
        with torch.no_grad():
            row = probe()
        self.net.load_state_dict(trained)
        self.net.train()
        return row

    def _save(self, step: int, average: dict[str, Tensor]) -> None:
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()} | {f"ema.{k}": v for k, v in average.items()}
        names = [n for n, _ in self.net.named_parameters()]
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{key}.{names[index]}": value for key, value in state.items()}
        _write(tensors | {"step": torch.tensor(step)}, self.checkpoint)

    def _resume(self) -> tuple[int, dict[str, Tensor]]:
        if not self.checkpoint.exists():
            return 0, {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        saved = load_file(self.checkpoint)
        self.net.load_state_dict({k[4:]: v for k, v in saved.items() if k.startswith("net.")})
        state = self.optimizer.state_dict()
        for index, (name, _) in enumerate(self.net.named_parameters()):
            keys = ("step", "exp_avg", "exp_avg_sq")
            state["state"][index] = {key: saved[f"adam.{key}.{name}"] for key in keys}
        self.optimizer.load_state_dict(state)
        return int(saved["step"]), {k[4:]: v for k, v in saved.items() if k.startswith("ema.")}


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    beside = path.with_suffix(".part")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, beside)
    beside.replace(path)


# --- data --------------------------------------------------------------------------------------------------------------


def random_pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Objects at random; styles at random with twice the share of plain, which `a {object}` has to itself."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.randint(len(OBJECTS), (count,), generator=generator)
    styles = torch.randint(len(STYLES) + 2, (count,), generator=generator).clamp(max=PLAIN)
    return objects, styles


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


# --- stages ------------------------------------------------------------------------------------------------------------


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
        smoothing = {"label_smoothing": 0.02}
        return F.cross_entropy(verdict.objects, objects[at], **smoothing) + F.cross_entropy(verdict.styles, styles[at], **smoothing)

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


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


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


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP-format tokenizer whose byte-pair merges build each word of the world, letter by letter, into one token."""
    letters = sorted({c for word in VOCABULARY for c in word})
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    for word in VOCABULARY:
        # What earlier words' merges make of this one is kept; new merges come last, so they cannot change earlier words.
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pairs = list(zip(parts, parts[1:], strict=False))
            known = [merges.index(p) for p in pairs if p in merges]
            if not known:
                merges.append(pairs[0])
                tokens.append("".join(pairs[0]))
            at = pairs.index(merges[min(known, default=-1)])
            parts = [*parts[:at], "".join(pairs[at]), *parts[at + 2 :]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(dict.fromkeys(tokens))}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12)
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            projection_dim=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 80, 160),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=4,
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", final_sigmas_type="zero"
    )  # fmt: skip


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
    scheduler = new_scheduler()
    alphas_cumprod = scheduler.alphas_cumprod.to(device)
    pipeline = StableDiffusionPipeline(
        vae, net.text, tokenizer, net.unet, scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    steps_of = {text: ids for text, ids in _tokenized(tokenizer)}

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        at = picked(step, len(latents), budget.unet_batch)
        texts = [caption(o, s, generator) for o, s in zip(objects[at].tolist(), styles[at].tolist(), strict=True)]
        distinct = list(dict.fromkeys(texts))
        states = net.text(torch.stack([steps_of[t] for t in distinct]).to(device)).last_hidden_state
        cond = states[[distinct.index(t) for t in texts]]
        x_0 = latents[at]
        # Stratified timesteps: one from each of `batch` equal slices, for a gradient of lower variance.
        slices = (torch.arange(len(at)) + torch.rand(len(at), generator=generator)) / len(at)
        t = (slices[torch.randperm(len(at), generator=generator)] * 1000).long().to(device)
        noise = torch.randn(x_0.shape, generator=generator).to(device)
        abar = alphas_cumprod[t][:, None, None, None]
        x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * noise
        snr = (abar / (1 - abar)).flatten()
        weight = snr.clamp(max=budget.snr_gamma) / snr
        errors = (net.unet(x_t, t, cond).sample - noise).pow(2).mean((1, 2, 3))
        return (weight * errors).mean()

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


def sample(pipeline: StableDiffusionPipeline, texts: list[str], seed: int, batch: int = 50) -> Tensor:
    """Pictures of the prompts at the canvas's default sampler, 8 bit."""
    pictures = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        noise = torch.randn(len(part), 4, 16, 16, generator=torch.Generator().manual_seed(seed + start)).to(pipeline.device)
        out = pipeline(part, latents=noise, num_inference_steps=SAMPLER["steps"], guidance_scale=SAMPLER["guidance"], output_type="pt")
        pictures.append((out.images * 255).round().to(torch.uint8))
    return torch.cat(pictures)


SAMPLER = {"steps": 12, "guidance": 3.0}
"""The canvas's default sampler: DPM-Solver++ (2M) in 12 steps, guidance 3."""


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
        train_unet(work, budget, device, progress, latents, objects, styles, vae, judge)
        train_judge("second", work, budget, device, progress)


if __name__ == "__main__":
    main()
