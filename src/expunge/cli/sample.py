"""`expunge sample`: a grid of images, of the base model and of a run."""

import io
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import CANVAS, Device, Guidance, Model, RenderBatch, SamplerSteps, build_sampler, find_run_folder

SHORTEST = 128
"""Pixels to which the width of smaller images is enlarged."""

GAP, LABEL = 6, 18
"""Pixels between images, and height of the line of text above a row."""

RUN = "Run folder, or the id of a run under runs/. Without it only the base model is sampled."
SEED = "Seed of the first image's noise; the next images add 1 each."


def sample(
    prompt: Annotated[list[str], typer.Option(metavar="TEXT", help="Prompt. May be repeated.", show_default=False)],
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help=RUN, show_default=False)] = None,
    model: Model = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Images of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help=SEED)] = 0,
    steps: SamplerSteps = None,
    guidance: Guidance = None,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="File to write.")] = Path("sample.png"),
    device: Device = "auto",
    render_batch: RenderBatch = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="fp32|bf16|fp16", help="Precision of the network.  [default: the run's, else fp32]")
    ] = None,
) -> None:
    """Generate images of prompts and write them as a grid.

    With a run, each row of the base model has a row of the unlearned model below it, generated from the same noise. Every difference
    between the two rows is an effect of the run.
    """
    import torch

    from expunge.cli.output import print_lines
    from expunge.errors import ExpungeError
    from expunge.evaluation.rendering import RENDER_BATCH
    from expunge.models.delta import swapped
    from expunge.runs.run import Run
    from expunge.storage.files import write_atomically
    from expunge.training.renderer import Renderer
    from expunge.training.session import Session

    if empty := [p for p in prompt if not p.strip()]:
        raise ExpungeError(
            f"The prompt {empty[0]!r} has no words.", rule="empty-prompt", value=empty[0], hint="Try --prompt 'a ring in neon style'."
        )
    finished = Run(find_run_folder(run)) if run else None
    base = model or (finished.card["model"]["name"] if finished else CANVAS)
    dtype = dtype or (finished.card["dtype"] if finished else "fp32")
    session = Session.open(base, device=device, dtype=dtype, render_batch=render_batch)
    loaded = session.model
    sampler, noise_seeds = build_sampler(loaded, steps, guidance), [seed + i for i in range(seeds)]
    deltas: dict[str, dict] = {"base model": {}} | ({"unlearned": finished.delta(loaded.fingerprint)} if finished else {})
    loaded.encode(prompt)  # raises for a prompt that the model cannot read, before anything is generated
    renderer, rows = Renderer(session, RENDER_BATCH), []
    for text, name in product(prompt, deltas):
        with swapped(loaded.network, deltas[name]):
            parts = (noise_seeds[part] for part in renderer.parts(seeds, f"images of {text!r}"))
            images = [loaded.sample([text] * len(part), part, sampler) for part in parts]
        rows.append((f"{text}  ({name})" if finished else text, torch.cat(images)))
    write_atomically(out, _encode_png(rows))
    print_lines(f"images  {out}")


def _encode_png(rows: list[tuple[str, Any]]) -> bytes:
    """A PNG with a line of text above each row of images."""
    from PIL import Image, ImageDraw, ImageFont

    _, _, height, width = rows[0][1].shape
    times = max(1, -(-SHORTEST // width))
    width, height, count = width * times, height * times, len(rows[0][1])
    sheet = Image.new("RGB", (GAP + count * (width + GAP), GAP + len(rows) * (LABEL + height + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (text, pixels) in enumerate(rows):
        top = GAP + row * (LABEL + height + GAP)
        draw.text((GAP, top), text, "black", font)
        for column, one in enumerate(pixels):
            image = Image.fromarray(one.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(image, (GAP + column * (width + GAP), top + LABEL))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
