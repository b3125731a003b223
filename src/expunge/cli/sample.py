"""`expunge sample`: pictures to look at, the untouched model's beside the unlearned one's."""

import io
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import CANVAS, Device, Guidance, Model, SamplerSteps, run_folder

LEAST = 128
"""Pixels to which small pictures are enlarged."""

GAP, LABEL = 6, 18
"""Pixels between pictures, and of a line of text above a row."""


def sample(
    prompt: Annotated[list[str], typer.Option(metavar="TEXT", help="What to draw. May repeat.", show_default=False)],
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder: draws its model beneath the untouched one.", show_default=False)
    ] = None,
    model: Model = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the first picture's noise; the next ones count up.")] = 0,
    steps: SamplerSteps = None,
    guidance: Guidance = None,
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The grid of pictures.")] = Path("sample.png"),
    device: Device = "auto",
    dtype: Annotated[str | None, typer.Option(metavar="fp32|bf16|fp16", help="Precision.  [default: the run's, else fp32]")] = None,
) -> None:
    """Draw prompts as a grid of pictures.

    With a run, each row of the untouched model has the unlearned one's beneath it, from the same noise: what differs is what
    unlearning did.
    """
    from expunge.cli.options import sampler
    from expunge.cli.screen import say
    from expunge.errors import ExpungeError
    from expunge.models.delta import swapped
    from expunge.models.loading import load
    from expunge.progress import Progress
    from expunge.runs.run import Run
    from expunge.storage.files import write_atomically

    if empty := [p for p in prompt if not p.strip()]:
        raise ExpungeError(f"a prompt has words: {empty[0]!r} has none; say what to draw, for example --prompt 'a ring in neon style'")
    made = Run(run_folder(run)) if run else None
    base = model or (made.card["model"]["name"] if made else CANVAS)
    loaded = load(base, device, dtype or (made.card["dtype"] if made else "fp32"))
    how, noise = sampler(loaded, steps, guidance), [seed + i for i in range(seeds)]
    versions: dict[str, dict] = {"untouched": {}} | ({"unlearned": made.delta(loaded.fingerprint)} if made else {})
    loaded.encode(prompt)  # what cannot be read shows before anything is drawn
    rows = [(text, name) for text in prompt for name in versions]
    drawn = []
    for i in Progress.default().track(range(len(rows)), "rows of pictures"):
        text, name = rows[i]
        with swapped(loaded.network, versions[name]):
            drawn.append((f"{text}  ({name})" if made else text, loaded.sample([text] * seeds, noise, how)))
    write_atomically(out, _png(drawn))
    say(f"pictures  {out}")


def _png(rows: list[tuple[str, Any]]) -> bytes:
    """A white sheet: a line of text above each row of pictures."""
    from PIL import Image, ImageDraw, ImageFont

    _, _, height, width = rows[0][1].shape
    times = max(1, -(-LEAST // width))
    width, height, count = width * times, height * times, len(rows[0][1])
    sheet = Image.new("RGB", (GAP + count * (width + GAP), GAP + len(rows) * (LABEL + height + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (text, pictures) in enumerate(rows):
        top = GAP + row * (LABEL + height + GAP)
        draw.text((GAP, top), text, "black", font)
        for column, picture in enumerate(pictures):
            image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(image, (GAP + column * (width + GAP), top + LABEL))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
