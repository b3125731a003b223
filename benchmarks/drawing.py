"""Images a second and peak memory of our sampling and of diffusers' own pipeline: `nice -n 19 python benchmarks/drawing.py`.

    python benchmarks/drawing.py --model sd15 --images 2 --repetitions 3   # measures, appends to drawing.jsonl, goes on where it ended
    python benchmarks/drawing.py --page                                    # writes docs/results/drawing.md from drawing.jsonl

Both write PNG files. Each case is a process of its own, forked from one that holds the model, so that its peak is its own; the cases of a
repetition follow each other, so that a change of the machine's load meets all of them. The SD 1.5 architecture has random weights, and few
steps: time and memory do not depend on the weights, and every step costs the same.
"""

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from expunge.canvas.pipeline import assemble, write_tokenizer
from expunge.concepts.concept import ProbePrompt
from expunge.evaluation.protocol import Shot
from expunge.evaluation.rendering import render
from expunge.models.base import DiffusionModel
from expunge.models.compiling import compiled
from expunge.models.loading import load
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.storage.cache import Store
from expunge.training.session import Session

FILE = Path(__file__).with_name("drawing.jsonl")
PAGE = Path(__file__).parents[1] / "docs" / "results" / "drawing.md"
BATCHES = {"canvas": (1, 4, 16), "sd15": (1, 2)}
SAMPLERS = {"canvas": Sampler(12, 3.0), "sd15": Sampler(2, 7.5)}
COMPILED = ("canvas",)
"""Models that are measured compiled too. It takes minutes for each batch of a large one."""
SIZES = {"canvas": "the canvas, 32 px, 12 steps", "sd15": "the SD 1.5 architecture (860 M, random weights), 256 px, 2 steps"}
HEAD = """# Speed of sampling

Use this page to see what sampling by `expunge eval` costs beside diffusers' own pipeline. Both write PNG files; ours also names each image
by everything that decides it. Medians over interleaved repetitions in one run (`benchmarks/drawing.py`). The ratio is that of images a
second to diffusers at batch 1 in the same repetition, with the smallest and the largest. Seconds are of the processor, not of the clock,
because other work ran on the machine; they still vary by a fifth. Memory is the peak above the loaded model. Compiling, which takes from
seconds to minutes for each batch, is left out.

Machine: {machines}.

On one thread of a CPU, sampling costs about what diffusers' pipeline costs at the same batch. The small network gains from a larger batch,
the large one hardly. Compiled, the small network samples about 1.3 to 1.5 times as many images a second as without. What makes an
evaluation cheaper is to sample fewer images, and none twice ([Evaluate at scale](../how-to/evaluate-at-scale.md)).
"""
COLUMNS = "| | images at once | images a second | ratio | peak memory, MiB |\n|---|--:|--:|--:|--:|\n"
WAYS = {"expunge": "`expunge`", "compiled": "`expunge`, `--compile`", "diffusers": "diffusers' pipeline"}


def sd15() -> StableDiffusionPipeline:
    """The architecture of Stable Diffusion 1.5 for 256 pixels, with the canvas's tokenizer."""
    torch.manual_seed(0)
    tokenizer = write_tokenizer(Path(tempfile.mkdtemp()) / "tokenizer")
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=tokenizer.model_max_length, **ids,
    )  # fmt: skip
    channels = (128, 256, 512, 512)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=channels,
        layers_per_block=2, latent_channels=4, sample_size=256,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=32, cross_attention_dim=768, attention_head_dim=8)
    return assemble(vae, CLIPTextModel(text), tokenizer, unet)


def loaded(name: str) -> DiffusionModel:
    """The model of a name in `BATCHES`."""
    return load("canvas" if name == "canvas" else sd15())


def ours(model: DiffusionModel, prompts: list[str], batch: int, sampler: Sampler, folder: Path) -> None:
    """Samples as an evaluation does."""
    session = Session(model, Store(folder), Silent(), render_batch=batch)
    shots = [Shot("target", ProbePrompt(prompt, {}), i, i) for i, prompt in enumerate(prompts)]
    render(session, shots, sampler, "weights", "images")


def theirs(model: DiffusionModel, prompts: list[str], batch: int, sampler: Sampler, folder: Path) -> None:
    """Samples as diffusers' documentation shows."""
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        size = {"height": model.size, "width": model.size}
        made = model.pipeline(part, num_inference_steps=sampler.steps, guidance_scale=sampler.guidance_scale, generator=generators, **size)
        for i, image in enumerate(made.images):
            image.save(folder / f"{start + i}.png")


DRAW: dict[str, Callable[..., None]] = {"expunge": ours, "compiled": ours, "diffusers": theirs}


def peak() -> int:
    """The largest number of bytes that this process had in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(model: DiffusionModel, name: str, way: str, batch: int, images: int, out: Any) -> None:
    """One case; puts seconds of the processor and the peak above the state before."""
    torch.set_num_threads(1)
    prompts = [("a ring in neon style", "a windmill in dots style")[i % 2] for i in range(images)]
    assert model.fingerprint  # a hash of all weights, which is no part of sampling
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other, compiled(model, way == "compiled") as failure:
        assert failure is None, failure
        if way == "compiled":  # once for each shape
            ours(model, prompts[:batch], batch, SAMPLERS[name], Path(other))
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        before, began = peak(), time.process_time()
        DRAW[way](model, prompts, batch, SAMPLERS[name], Path(folder))
        out.put((time.process_time() - began, peak() - before))


def run(name: str, images: int, repetitions: int) -> None:
    """Measures all cases of a model that the file does not have."""
    lines = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    done = {(row["model"], row["way"], row["batch"], row["repetition"]) for row in lines}
    fork = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    model = loaded(name)
    assert model.fingerprint
    for repetition in range(repetitions):
        for batch in BATCHES[name]:
            for way in DRAW:
                if (name, way, batch, repetition) in done or (way == "compiled" and name not in COMPILED):
                    continue
                out = fork.SimpleQueue()
                process = fork.Process(target=measure, args=(model, name, way, batch, images, out))
                process.start()
                seconds, memory = out.get()
                process.join()
                row = {"model": name, "way": way, "batch": batch, "repetition": repetition, "images": images, "seconds": round(seconds, 3),
                       "peak_bytes": memory, "machine": machine(), "torch": torch.__version__}  # fmt: skip
                with FILE.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


def machine() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def page(rows: list[dict[str, Any]]) -> str:
    """docs/results/drawing.md."""
    machines = ", ".join(sorted({f"{r['machine']}, one thread, torch {r['torch']}" for r in rows}))
    parts = [HEAD.format(machines=machines)]
    for name, title in SIZES.items():
        own = [r for r in rows if r["model"] == name]
        if not own:
            continue
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n{COLUMNS}")
        alone = {r["repetition"]: r["images"] / r["seconds"] for r in own if (r["way"], r["batch"]) == ("diffusers", 1)}
        for way, label in WAYS.items():
            for batch in BATCHES[name]:
                cases = [r for r in own if (r["way"], r["batch"]) == (way, batch)]
                if cases:
                    speeds = [r["images"] / r["seconds"] for r in cases]
                    ratios = [s / alone[r["repetition"]] for s, r in zip(speeds, cases, strict=True) if r["repetition"] in alone]
                    ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                    memory = median(r["peak_bytes"] for r in cases) / 2**20
                    parts.append(f"| {label} | {batch} | {median(speeds):.3g} | {ratio} | {memory:,.0f} |\n")
        count = len({r["repetition"] for r in own})
        parts.append(f"\n{count} repetitions of {own[0]['images']} images.\n")
    parts.append("\nNot measured: accelerators.\n")
    return "".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(BATCHES), default="canvas")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page([json.loads(line) for line in FILE.read_text().splitlines()]))
    else:
        run(given.model, given.images, given.repetitions)
