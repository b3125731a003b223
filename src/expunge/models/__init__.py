"""Model families behind one protocol: loading, prompts, predictions, sampling, scopes and deltas.

Only this package and `canvas` import diffusers; nobody outside sees a pipeline.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.models.base import DiffusionModel as DiffusionModel
    from expunge.models.loading import load as load
    from expunge.models.sampling import Sampler as Sampler
    from expunge.models.scopes import SCOPES as SCOPES
    from expunge.models.scopes import Scope as Scope

_HOMES = {"DiffusionModel": "base", "SCOPES": "scopes", "Sampler": "sampling", "Scope": "scopes", "load": "loading"}
__all__ = ["SCOPES", "DiffusionModel", "Sampler", "Scope", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, so it is imported when a name is used: lists and scopes need none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge.models' has no attribute {name!r}")
    return getattr(import_module(f"expunge.models.{_HOMES[name]}"), name)
