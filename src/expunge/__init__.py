"""expunge: remove a concept from a text-to-image diffusion model, and measure that it is gone.

run = expunge.unlearn("canvas", "neon style", "mim-mu")
rows = expunge.evaluate(run)
audit = expunge.audit(run, budget="quick")
page = expunge.report([run], "report.html")
pipeline = expunge.load("canvas", run)
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    """The version of the installed package; "unknown" if it is not installed."""

    from expunge.attacks import ATTACKS
    from expunge.audits.results import Audit
    from expunge.concepts.concept import Concept
    from expunge.concepts.groups import Several
    from expunge.concepts.vocabulary import Vocabulary
    from expunge.errors import ExpungeError
    from expunge.evaluation.early_stopping import Gone
    from expunge.evaluation.evaluate import evaluate
    from expunge.evaluation.information.interview import Meter
    from expunge.evaluation.information.retention import measure_information
    from expunge.evaluation.judge_settings import JudgeSpec
    from expunge.evaluation.metrics import METRICS
    from expunge.evaluation.protocol import Protocol
    from expunge.evaluation.shown import images
    from expunge.methods import METHODS
    from expunge.methods.base import Training
    from expunge.methods.presets import preset
    from expunge.models.loading import Model
    from expunge.models.sampling import Sampler
    from expunge.models.text_eraser import TextEraser
    from expunge.progress import Progress
    from expunge.runs.adopt import adopt
    from expunge.runs.compose import compose
    from expunge.runs.estimate import estimate
    from expunge.runs.export import load, merge, push, write_difference, write_lora, write_single_file, write_text_eraser
    from expunge.runs.purge import purge
    from expunge.runs.run import Run
    from expunge.runs.unlearn import unlearn
    from expunge.storage.cache import Store
    from expunge.training.batch_size import RenderBatch
    from expunge.training.stopping import StoppingRule

_HOMES = {
    "ATTACKS": "attacks", "Audit": "audits.results", "Concept": "concepts.concept", "ExpungeError": "errors",
    "Gone": "evaluation.early_stopping", "METHODS": "methods", "METRICS": "evaluation.metrics", "Meter": "evaluation.information.interview",
    "Protocol": "evaluation.protocol", "Run": "runs.run", "Sampler": "models.sampling", "Several": "concepts.groups",
    "StoppingRule": "training.stopping", "TextEraser": "models.text_eraser", "Training": "methods.base",
    "Vocabulary": "concepts.vocabulary", "adopt": "runs.adopt",
    "compose": "runs.compose", "estimate": "runs.estimate", "evaluate": "evaluation.evaluate", "images": "evaluation.shown",
    "load": "runs.export",
    "measure_information": "evaluation.information.retention", "merge": "runs.export", "preset": "methods.presets",
    "purge": "runs.purge", "push": "runs.export",
    "unlearn": "runs.unlearn", "write_difference": "runs.export", "write_lora": "runs.export",
    "write_single_file": "runs.export", "write_text_eraser": "runs.export",
}  # fmt: skip


def report(
    runs: "Run | str | Path | Sequence[Run | str | Path]",
    out: str | Path = "report.html",
    *,
    pictures: bool = True,
    blur: bool | None = None,
) -> Path:
    """Writes one self-contained page about a run with its evaluation and audits, or about several runs side by side; returns its path.

    Args:
        out: the file to write.
        pictures: whether the page has images.
        blur: whether images are blurred until the reader clears a box on the page; by default those of concepts of the kind `unsafe`.

    Raises:
        ExpungeError: a folder that is no run, or a page that cannot be written.
    """
    write = import_module("expunge.reports.pages.run").write_report
    several = runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    return write([Path(r) if isinstance(r, str | Path) else r.folder for r in several], Path(out), pictures, blur)


def audit(
    run: "Run | str | Path",
    budget: "str | Path" = "quick",
    *,
    control: "Run | str | Path | None" = None,
    attacks: Sequence[str] = (),
    auxiliary: str | Path | None = None,
    judge: "JudgeSpec | None" = None,
    seed: int = 0,
    model: "Model | None" = None,
    sampler: "Sampler | None" = None,
    out: str | Path | None = None,
    allow_code: bool = False,
    device: str = "auto",
    cache: "Store | str | Path | None" = None,
    progress: "Progress | None" = None,
    render_batch: "RenderBatch" = None,
    workers: int = 1,
    address: str | None = None,
    pictures: bool = True,
    blur: bool | None = None,
) -> "Audit":
    """Attacks a run and, as a control, its base model, and writes one self-contained page of the run's evaluation and this audit.

    Finished attacks are kept: the same call continues after an interruption and computes nothing twice.

    Args:
        budget: "quick", "standard", "full", or a TOML file: which attacks with which settings, and how many images.
        control: a run whose model never saw the concept (`python -m expunge.canvas.training.retrain` or
            `expunge.adopt(..., never_saw=True)`), or "none". Default: the one that comes with the canvas, for the six concepts that it
            never saw; else none.
        attacks: names or labels; default all of the budget. One that it lacks is added with its own defaults.
        auxiliary: pictures with captions to relearn from, none of which names the concept: a folder, or `datasets:NAME`.
        judge: who says whether the concept is seen; default the canvas's own two, else one is needed.
        seed: of everything random in the attacks, and of the noise that pictures start from.
        model: the base model; default the one that the run's card names.
        sampler: default the model's own.
        out: default `audit` in the run's folder, or beside it by budget, attacks and seed.
        allow_code: import the attacks outside the package that a budget's file names. For files that you trust.
        device: of what is loaded; "auto" takes the fastest one there is. A pipeline in memory stays where it is.
        cache: where images, and the attacks on controls, are kept for other audits; default `$EXPUNGE_CACHE`, else `~/.cache/expunge`.
        progress: shows how far the audit is on standard error; default `expunge.progress.Progress()`. `expunge.progress.Silent()` shows
            nothing.
        render_batch: images that are sampled at once; default 40 on a CPU and for embedded models, else "auto": the number with
            which the device is fastest, measured once and kept in the cache. Larger needs more memory.
        workers: processes that share the attacks, this one included, each with a model of its own: more need as much more memory, and on
            CUDA each takes the next device. A pipeline in memory allows one.
        address: of a Ray cluster ("auto", "ray://host:10001") that has the other workers; default: this machine has them.
        pictures: whether the page has images.
        blur: whether images are blurred until the reader clears a box on the page; by default those of concepts of the kind `unsafe`.

    Returns:
        The audit; its findings, its rows, and its folder, which holds `index.html`.

    Raises:
        ExpungeError: any bad input. An attack that cannot be made is listed in `failures` instead.
    """
    steps, page = import_module("expunge.audits.setup"), import_module("expunge.reports.pages.run")
    cells = import_module("expunge.audits.worker")
    battery = steps.prepare(
        run, budget, control=control, attacks=attacks, auxiliary=auxiliary, judge=judge, seed=seed, model=model, sampler=sampler, out=out,
        allow_code=allow_code, device=device, cache=cache, progress=progress, render_batch=render_batch,
    )  # fmt: skip
    made = steps.conclude(battery, list(cells.run(battery, workers, address)))
    page.write_audit_page(made, pictures, blur)
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})


def __getattr__(name: str) -> Any:
    # Names are looked up when they are used: `import expunge`, and with it `expunge --help`, need not wait for torch.
    if name == "__version__":
        return import_module("expunge.config").version_of("expunge")
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    return getattr(import_module(f"expunge.{_HOMES[name]}"), name)
