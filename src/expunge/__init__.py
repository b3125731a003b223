"""expunge: remove a concept from a text-to-image diffusion model, and measure that it is gone.

run = expunge.unlearn("canvas", "neon style", "mim-mu")
rows = expunge.evaluate(run)
page = expunge.report([run], "report.html")
pipeline = expunge.load("canvas", run)
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.composition import compose as compose
    from expunge.concept import Concept as Concept
    from expunge.evaluation import evaluate as evaluate
    from expunge.export import load as load
    from expunge.export import merge as merge
    from expunge.export import write_lora as write_lora
    from expunge.methods import METHODS as METHODS
    from expunge.metrics import METRICS as METRICS
    from expunge.probe import Gone as Gone
    from expunge.render import Protocol as Protocol
    from expunge.run import Run as Run
    from expunge.run import unlearn as unlearn
    from expunge.types import ExpungeError as ExpungeError
    from expunge.vocabulary import Vocabulary as Vocabulary

_HOMES = {
    "Concept": "concept", "Vocabulary": "vocabulary", "ExpungeError": "types", "METHODS": "methods", "METRICS": "metrics",
    "Gone": "probe", "Protocol": "render", "Run": "run", "evaluate": "evaluation", "load": "export", "merge": "export", "unlearn": "run",
    "compose": "composition", "write_lora": "export",
}  # fmt: skip


def report(runs: "Sequence[Run | str | Path]", out: str | Path = "report.html") -> Path:
    """Writes one self-contained page about one run or several, and returns its path.

    Raises:
        ExpungeError: a folder that is no run, or a page that cannot be written.
    """
    write = import_module("expunge.reporting").write
    return write([Path(r) if isinstance(r, str | Path) else r.folder for r in runs], Path(out))


def __getattr__(name: str) -> Any:
    # Names are looked up when they are used: `import expunge`, and with it `expunge --help`, need not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    return getattr(import_module(f"expunge.{_HOMES[name]}"), name)
