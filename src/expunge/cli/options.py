"""The options that verbs share, each said once."""

from pathlib import Path
from typing import Annotated, Any

import typer

CANVAS = "canvas"
"""The embedded model, which is asked for where no other is named."""

Model = Annotated[
    str | None, typer.Option(metavar="FOLDER|ID", help="A diffusers folder, a hub id, or canvas, the embedded model.", show_default=CANVAS)
]
BaseModel = Annotated[
    str | None, typer.Option("--model", metavar="FOLDER|ID", help="The base model, if it is no longer where the run found it.")
]
Vocabulary = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Concepts of your own, in TOML or CSV (`expunge show vocabulary`), or canvas or general, the built-in ones."),
]  # fmt: skip
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:1, mps; auto takes the fastest there is.")]
Judge = Annotated[
    str | None,
    typer.Option(metavar="NAME|FOLDER|ID", help="Who says what a picture shows (see `expunge ls judges`).", show_default="the canvas's on the canvas, else none"),
]  # fmt: skip
SamplerSteps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Denoising steps.", show_default="the model's")]
Guidance = Annotated[float | None, typer.Option(metavar="NUMBER", help="Classifier-free guidance.", show_default="the model's")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its id under runs/.", show_default=False)]


def run_folder(given: Path) -> Path:
    """The folder meant by a path or by the id of a run under `runs/`."""
    under = Path("runs") / given
    return under if not given.exists() and under.is_dir() else given


def best_device(device: str) -> str:
    """`device`, or what "auto" stands for on this machine."""
    if device != "auto":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def sampler(denoiser: Any, steps: int | None, guidance: float | None) -> Any:
    """The model's own sampler, with what was given in the place of its settings."""
    from expunge.config import build, settings
    from expunge.denoiser import Sampler

    given = {"steps": steps, "guidance_scale": guidance}
    return build(Sampler, settings(denoiser.default_sampler) | {k: v for k, v in given.items() if v is not None}, "sampler")
