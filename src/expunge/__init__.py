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
    from expunge.adoption import adopt as adopt
    from expunge.asking import Meter as Meter
    from expunge.attacks import ATTACKS as ATTACKS
    from expunge.auditing.outcome import Audit as Audit
    from expunge.composition import compose as compose
    from expunge.concept import Concept as Concept
    from expunge.denoiser import Sampler as Sampler
    from expunge.evaluation import evaluate as evaluate
    from expunge.export import load as load
    from expunge.export import merge as merge
    from expunge.export import write_lora as write_lora
    from expunge.methods import METHODS as METHODS
    from expunge.metrics import METRICS as METRICS
    from expunge.objective import Training as Training
    from expunge.presets import preset as preset
    from expunge.probe import Gone as Gone
    from expunge.render import Protocol as Protocol
    from expunge.retention import measure_information as measure_information
    from expunge.run import Run as Run
    from expunge.run import unlearn as unlearn
    from expunge.several import Several as Several
    from expunge.types import ExpungeError as ExpungeError
    from expunge.vocabulary import Vocabulary as Vocabulary

_HOMES = {
    "ATTACKS": "attacks", "Audit": "auditing.outcome",
    "Concept": "concept", "Vocabulary": "vocabulary", "ExpungeError": "types", "METHODS": "methods", "METRICS": "metrics",
    "Gone": "probe", "Protocol": "render", "Run": "run", "evaluate": "evaluation", "load": "export", "merge": "export", "unlearn": "run",
    "adopt": "adoption", "Several": "several", "Training": "objective", "Sampler": "denoiser", "Meter": "asking",
    "preset": "presets", "compose": "composition", "write_lora": "export", "measure_information": "retention",
}  # fmt: skip


def report(runs: "Run | str | Path | Sequence[Run | str | Path]", out: str | Path = "report.html") -> Path:
    """Writes one self-contained page about one run or several, and returns its path.

    Raises:
        ExpungeError: a folder that is no run, or a page that cannot be written.
    """
    write = import_module("expunge.reporting").write
    several = runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    return write([Path(r) if isinstance(r, str | Path) else r.folder for r in several], Path(out))


def audit(
    run: "Run | str | Path",
    budget: "str | Path" = "quick",
    *,
    control: "Run | str | Path | None" = None,
    attacks: Sequence[str] = (),
    auxiliary: str | Path | None = None,
    judge: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    **given: Any,
) -> "Audit":
    """Attacks a run with a whole battery, and its untouched model as a control, and writes one self-contained page.

    What is done is kept: the same call goes on where it was stopped, and computes nothing twice.

    Args:
        budget: "quick", "standard", "full", or a TOML file: which attacks with which settings, and how many pictures.
        control: a run whose model never saw the concept (`python -m expunge.canvas.retrain`, `expunge.adopt(..., never_saw=True)`), or
            "none". Default: the one that the canvas brings, for the six of its concepts that it never saw; else none.
        attacks: names or labels; default all of the budget. One that it lacks is added with its own defaults.
        auxiliary: pictures with captions to relearn from, none of which names the concept: a folder, or `datasets:NAME`.
        judge: who says whether the concept is seen; default the canvas's own two, else one is needed.
        seed: of everything random in the attacks, and of the noise that pictures start from.
        out: default `audit` in the run's folder, or beside it by budget, attacks and seed.
        given: further arguments of `expunge.auditing.prepare.prepare`: model, sampler, device, store.

    Returns:
        The audit; its findings, its rows, and its folder, which holds `index.html`.

    Raises:
        ExpungeError: any bad input; an attack that cannot be made is told of in `failures` instead.
    """
    steps, page = import_module("expunge.auditing.prepare"), import_module("expunge.reporting.audit")
    battery = steps.prepare(run, budget, control=control, attacks=attacks, auxiliary=auxiliary, judge=judge, seed=seed, out=out, **given)
    made = steps.conclude(battery, list(battery.run()))
    page.write(made)
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def __getattr__(name: str) -> Any:
    # Names are looked up when they are used: `import expunge`, and with it `expunge --help`, need not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    return getattr(import_module(f"expunge.{_HOMES[name]}"), name)
