"""`expunge merge RUN FOLDER`: a run's model as a folder or a single file, or its change as a file that programs add to the base model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import AllowCode, BaseModel, RunFolder, find_run_folder
from expunge.errors import ExpungeError

FILE = "FILE.safetensors"
DTYPE = "Precision of all weights in FOLDER.  [default: that of the base model's files]"
LORA = "Write the change as a LoRA file, for diffusers, ComfyUI and A1111."
RANK = "Rank of the LoRA. A larger rank is closer to the run.  [default: that of the run's scope, else 16]"
NAMING = "Names in the LoRA file: kohya, diffusers, or auto for what most programs read."
DIFF = "Write the exact change, of any rank, as .diff tensors, for ComfyUI's LoRA loader."
ERASER = "Write the edit of uce as one matrix on prompts, for use at run time (see expunge.TextEraser)."
SINGLE = "Write the whole model as one checkpoint file; needs --original, unless --model is one."
ORIGINAL = "With --single-file: the base model's own checkpoint file, which is copied and changed."

NEEDS = {"rank": "lora", "naming": "lora", "original": "single-file", "dtype": ""}
"""Options that mean something for one kind of output alone; "" is the folder."""


def merge(
    run: RunFolder,
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="New folder for the whole model.", show_default=False)] = None,
    model: BaseModel = None,
    dtype: Annotated[str | None, typer.Option(metavar="fp32|bf16|fp16", help=DTYPE)] = None,
    lora: Annotated[Path | None, typer.Option(metavar=FILE, help=LORA)] = None,
    rank: Annotated[int | None, typer.Option(metavar="N", help=RANK)] = None,
    naming: Annotated[str | None, typer.Option(metavar="auto|kohya|diffusers", help=NAMING)] = None,
    diff: Annotated[Path | None, typer.Option(metavar=FILE, help=DIFF)] = None,
    single_file: Annotated[Path | None, typer.Option(metavar=FILE, help=SINGLE)] = None,
    original: Annotated[Path | None, typer.Option(metavar=FILE, help=ORIGINAL)] = None,
    text_eraser: Annotated[Path | None, typer.Option(metavar=FILE, help=ERASER)] = None,
    allow_code: AllowCode = False,
) -> None:
    """Write a run's model as a folder or file, or its change as a LoRA.

    FOLDER is loaded with `from_pretrained` and needs no expunge. Parts that did not change are copied byte for byte, and a model card has
    the metrics of `eval`. A LoRA file holds a low-rank run exactly and approximates any other run; the command prints how much of the
    change is missing. LoRA files and differences do not change the base model: users who do not load them still have the concept.
    """
    from expunge.cli.output import print_lines
    from expunge.runs import export
    from expunge.runs.export.folder import new_folder
    from expunge.runs.export.lora import rank_of
    from expunge.runs.run import Run

    outputs = {"": folder, "lora": lora, "diff": diff, "single-file": single_file, "text-eraser": text_eraser}
    _check(outputs, {"rank": rank, "naming": naming, "original": original, "dtype": dtype})
    finished = Run(find_run_folder(run))
    base = model or finished.card["model"]["name"]
    if folder:
        new_folder(folder)
        print_lines(f"model   {export.merge(base, finished, folder, dtype)}")
    elif lora:
        missing = export.write_lora(base, finished, lora, rank, naming or "auto")  # type: ignore[arg-type]
        print_lines(f"lora    {lora}", f"rank    {rank or rank_of(finished)}", f"missing {missing:.2%} of the change's norm")
    elif diff:
        print_lines(f"change  {export.write_difference(base, finished, diff)}")
    elif single_file:
        print_lines(f"model   {export.write_single_file(base, finished, single_file, original)}")
    elif text_eraser:
        export.write_text_eraser(base, finished, text_eraser, allow_code)
        print_lines(f"eraser  {text_eraser}")


def _check(outputs: dict[str, Path | None], options: dict[str, Any]) -> None:
    """Refuses anything but one kind of output with its own options.

    Raises:
        ExpungeError: None or several are given, or an option of another kind.
    """
    given = {kind: path for kind, path in outputs.items() if path}
    flags = [f"--{kind} {FILE}" for kind in outputs if kind]
    if len(given) != 1:
        raise ExpungeError(
            f"A model is written in one form, and {'none' if not given else 'several'} is given.",
            rule="folder-or-lora",
            value=[str(path) for path in given.values()],
            hint=f"Try `expunge merge RUN FOLDER`, or one of {', '.join(flags)} instead of FOLDER.",
        )
    [kind] = given
    for name, value in options.items():
        if value is not None and NEEDS[name] != kind:
            raise ExpungeError(
                f"The option --{name} {value} has no effect without {f'--{NEEDS[name]}' if NEEDS[name] else 'FOLDER'}.",
                rule=f"{name}-without-{NEEDS[name] or 'folder'}",
                value=value if isinstance(value, int) else str(value),
                hint=f"Try `--{NEEDS[name]} {FILE}`." if NEEDS[name] else "Try `expunge merge RUN FOLDER`.",
            )
