"""The options of `expunge unlearn` that all methods share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.cli.options import AllowCode, Device, Model, RenderBatch, Vocabulary


def _option(metavar: str, about: str) -> Any:
    return typer.Option(metavar=metavar, help=about)


VARIANT = "Variant of the base model's files, as fp16 for *.fp16.safetensors.  [default: none, or the only one that it has]"
MODEL_CONFIG = (
    "Where the base model is a single file: a diffusers folder or hub id with the configuration of its parts. What the file lacks is "
    "read from that folder.  [default: the one that diffusers knows for such a file, from the hub or its cache]"
)
TARGET = "Concept to remove. Repeat it for other names of the concept, or for other concepts."
SYNONYM = "Another name of the concept to remove. May be repeated."
ANCHOR = "What the concept becomes; ca, f-dmu, spm and uce use it.  [default: the prompt without the concept]"
TOGETHER = "Several concepts one after another, in stages, or together in every batch.  [default: joint]"
REFERENCE = (
    "With --sequential: each stage learns from the original base model, or from the result of the previous stage.  [default: original]"
)
BEFORE = (
    "Method, preset or config.toml to apply first; this method continues from its result. May be repeated, in order. A second kind of "
    "change can remove what the first leaves."
)
KIND = "Kind of a concept that the vocabulary lacks: style, object, ..."
SEED = "Seed of images, noise and batches.  [default: 0]"
CONFIG = "A run's config.toml, a preset (see `expunge ls presets`), or LECO's prompts as TOML. Options override it."
QUANTIZE = (
    "Store the network's linear layers in 4 or 8 bits while a low-rank scope is trained: less memory, less exact predictions. The result "
    "belongs to the full-precision model.  [default: no]"
)
STOP = "Generate images every N steps and stop as soon as the judge sees the concept in none; 0 is never.  [default: never]"
JUDGE = "With --stop-when-gone: the judge (see `expunge ls judges`).  [default: main on the canvas]"
MERGE = "Also write the whole changed model into this new folder."
ACCEPT = (
    'What the run must reach, fixed before it begins, such as "UA>=0.98, NRA>=-0.02, relearn<=control+0.05". '
    "`expunge report RUN --record` says whether it does."
)
TRACK = (
    "Also log the configuration, and each step's loss, terms and learning rate, to this experiment tracker. May be repeated. The result "
    "does not depend on it; a closed form logs nothing."
)
DRY_RUN = "Print what would be done and its estimated cost, then exit."

COMMON: dict[str, tuple[Any, Any]] = {
    "model": (Model, None),
    "model_variant": (Annotated[str | None, _option("NAME", VARIANT)], None),
    "model_config": (Annotated[str | None, _option("FOLDER|ID", MODEL_CONFIG)], None),
    "target": (Annotated[list[str] | None, _option("WORDS", TARGET)], None),
    "synonym": (Annotated[list[str] | None, _option("WORDS", SYNONYM)], None),
    "anchor": (Annotated[str | None, _option("WORDS", ANCHOR)], None),
    "sequential": (Annotated[bool | None, typer.Option("--sequential/--joint", help=TOGETHER)], None),
    "reference": (Annotated[str | None, _option("original|previous", REFERENCE)], None),
    "before": (Annotated[list[str] | None, _option("METHOD|FILE.toml|PRESET", BEFORE)], None),
    "kind": (Annotated[str | None, _option("KIND", KIND)], None),
    "vocabulary": (Vocabulary, None),
    "seed": (Annotated[int | None, _option("N", SEED)], None),
    "out": (Annotated[Path | None, _option("FOLDER", "Folder of the run.  [default: runs/ID]")], None),
    "device": (Device, "auto"),
    "render_batch": (RenderBatch, None),
    "dtype": (Annotated[str | None, _option("fp32|bf16|fp16", "Precision of the network.  [default: fp32]")], None),
    "quantize": (Annotated[str | None, _option("nf4|int8", QUANTIZE)], None),
    "config": (Annotated[Path | None, _option("FILE.toml|PRESET", CONFIG)], None),
    "stop_when_gone": (Annotated[int | None, _option("N", STOP)], None),
    "judge": (Annotated[str | None, _option("NAME|FOLDER|ID", JUDGE)], None),
    "merge": (Annotated[Path | None, _option("FOLDER", MERGE)], None),
    "accept": (Annotated[str | None, _option("CRITERION", ACCEPT)], None),
    "track": (Annotated[list[str] | None, _option("tensorboard|wandb|mlflow", TRACK)], None),
    "allow_code": (AllowCode, False),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help=DRY_RUN)], False),
}
"""Type and default of each option, by its name."""

SWITCHES = (
    *("--dry-run", "--help", "--sequential", "--joint", "--allow-code"),
    *("--gradient-checkpointing", "--no-gradient-checkpointing", "--per-concept", "--no-per-concept"),
    *("--whiten-layers", "--no-whiten-layers"),
)
"""Options that take no value, those of training included."""
