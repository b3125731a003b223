"""The options that verbs share, each said once."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

CANVAS = "canvas"
"""The embedded model, which is asked for where no other is named."""

Model = Annotated[
    str | None, typer.Option(metavar="FOLDER|ID", help="A diffusers folder, a hub id, or canvas, the embedded model.  [default: canvas]")
]
BaseModel = Annotated[
    str | None, typer.Option("--model", metavar="FOLDER|ID", help="The base model, if it is no longer where the run found it.")
]
VOCABULARY = (
    "Concepts of your own, in TOML or CSV (see `expunge show vocabulary`); canvas and general are built in.  [default: the model's]"
)
Vocabulary = Annotated[str | None, typer.Option(metavar="FILE", help=VOCABULARY)]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where to compute: cpu, cuda, cuda:1, mps; auto takes the fastest there is.")]
JUDGE = "Who says what a picture shows (see `expunge ls judges`).  [default: main on the canvas, else none]"
Judge = Annotated[str | None, typer.Option(metavar="NAME|FOLDER|ID", help=JUDGE)]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Import the code that a file names as package.module:NAME. For files that you trust.")
]
SamplerSteps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Denoising steps.  [default: the model's]")]
Guidance = Annotated[float | None, typer.Option(metavar="NUMBER", help="Classifier-free guidance.  [default: the model's]")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its id under runs/.", show_default=False)]


def values_of(flags: Collection[str], arguments: Sequence[str]) -> list[str]:
    """The values that a flag was given, under any of its names, as two words or with a sign of equality.

    >>> values_of(["--seed"], ["--seed", "1", "--seed=2"])
    ['1', '2']
    """
    split = [a.split("=", 1) for a in arguments]
    followed = zip(split, [*arguments[1:], ""], strict=True)
    return [[*parts, after][1] for parts, after in followed if parts[0] in flags]


def run_folder(given: Path) -> Path:
    """The folder meant by a path or by the id of a run under `runs/`."""
    under = Path("runs") / given
    return under if not given.exists() and under.is_dir() else given


def sampler(model: Any, steps: int | None, guidance: float | None) -> Any:
    """The model's own sampler, with what was given in the place of its settings."""
    from expunge.config import build, settings
    from expunge.models.sampling import Sampler

    given = {"steps": steps, "guidance_scale": guidance}
    return build(Sampler, settings(model.default_sampler) | {k: v for k, v in given.items() if v is not None}, "sampler")
