"""Options and arguments that several commands share, and how their values are read."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from expunge.concepts.vocabulary import Vocabulary as Words

CANVAS = "canvas"
"""The embedded model, the default of `--model`."""

MODEL = "Base model: a diffusers folder, a .safetensors file, a hub id, or an embedded model, canvas or digits.  [default: canvas]"
Model = Annotated[str | None, typer.Option(metavar="FOLDER|FILE|ID", help=MODEL)]
BASE_MODEL = "Base model, if it is no longer where the run found it.  [default: the one that the run's card names]"
BaseModel = Annotated[str | None, typer.Option("--model", metavar="FOLDER|FILE|ID", help=BASE_MODEL)]
VOCABULARY = "Vocabulary: canvas, general, or a TOML or CSV file of your own (see `expunge show vocabulary`).  [default: the model's]"
Vocabulary = Annotated[str | None, typer.Option(metavar="FILE", help=VOCABULARY)]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Import code that a file names as package.module:NAME. For files that you trust.")
]
ADDRESS = "Address of a Ray cluster that has the other workers, such as auto or ray://host:10001.  [default: this machine]"
Address = Annotated[str | None, typer.Option(metavar="ADDRESS", help=ADDRESS)]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Device: cpu, cuda, cuda:1, mps, or auto for the fastest one.")]
RENDER = (
    "Images sampled at once, or auto: the number with which the device is fastest, measured once.  [default: at most 40 on a CPU and for "
    "embedded models, else auto]"
)


def _read_batch(text: str) -> Any:
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise typer.BadParameter("it is a whole number above 0, or auto.")
    return text if text == "auto" else int(text)


RenderBatch = Annotated[Any, typer.Option(metavar="N|auto", parser=_read_batch, help=RENDER)]
JUDGE = "Judge that labels the images (see `expunge ls judges`).  [default: main on the canvas, else none]"
Judge = Annotated[str | None, typer.Option(metavar="NAME|FOLDER|ID", help=JUDGE)]
STEPS = "Denoising steps of each image.  [default: the model's]"
SamplerSteps = Annotated[int | None, typer.Option("--steps", metavar="N", help=STEPS)]
GUIDANCE = "Scale of classifier-free guidance; 1 is none.  [default: the model's]"
Guidance = Annotated[float | None, typer.Option(metavar="NUMBER", help=GUIDANCE)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or the id of a run under runs/.", show_default=False)]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Leave every image out of the page.")]
BLUR = "Blur the images until the reader clears a box on the page.  [default: blur for concepts of the kind `unsafe`]"
Blur = Annotated[bool | None, typer.Option("--blur/--no-blur", help=BLUR)]
RunFolders = Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, or ids of runs under runs/.", show_default=False)]


def read_option_values(flags: Collection[str], arguments: Sequence[str]) -> list[str]:
    """The values that arguments give to an option under any of its names, as "--seed 1" or "--seed=1".

    >>> read_option_values(["--seed"], ["--seed", "1", "--seed=2"])
    ['1', '2']
    """
    split = [a.split("=", 1) for a in arguments]
    followed = zip(split, [*arguments[1:], ""], strict=True)
    return [[*parts, after][1] for parts, after in followed if parts[0] in flags]


def find_run_folder(run: Path) -> Path:
    """The folder of a run that is given by its path or by its id under `runs/`."""
    under = Path("runs") / run
    return under if not run.exists() and under.is_dir() else run


def find_vocabulary(name: str | None, model: str) -> "Words":
    """A vocabulary: a built-in one by name, one from a file, or without a name the one that belongs to the model.

    Raises:
        ExpungeError: The file cannot be read or is no vocabulary.
    """
    from expunge.concepts.vocabulary import Vocabulary as Words
    from expunge.models.defaults import defaults_of

    match name:
        case None:
            return defaults_of(model).vocabulary()
        case "canvas":
            return Words.canvas()
        case "general":
            return Words.general()
        case file:
            return Words.load(Path(file))


def build_sampler(model: Any, steps: int | None, guidance: float | None) -> Any:
    """The model's sampler with the given settings replaced.

    Raises:
        ExpungeError: A setting is out of bounds.
    """
    from expunge.config import build, settings
    from expunge.models.sampling import Sampler

    given = {"steps": steps, "guidance_scale": guidance}
    return build(Sampler, settings(model.default_sampler) | {k: v for k, v in given.items() if v is not None}, "sampler")
