"""The libraries that load a model speak to people who call them; those who call expunge are spared their bars and hints.

They take seconds to import, so they are imported where a model is loaded and not before: a price of what was priced before needs neither.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and hints of diffusers and transformers for as long as the context lasts; the bars of a download stay as they are."""
    from diffusers.utils import logging as of_diffusers
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    kept = [(log.get_verbosity(), getattr(log, "is_progress_bar_enabled", lambda: True)()) for log in libraries]
    downloads = not are_progress_bars_disabled()

    def switch(on: bool, log: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hub's own bars go with those of transformers, and say where they may not
            (log.enable_progress_bar if on else log.disable_progress_bar)()  # type: ignore[attr-defined]
            if downloads == are_progress_bars_disabled():
                (enable_progress_bars if downloads else disable_progress_bars)()

    try:
        for log in libraries:
            log.set_verbosity_error()
            switch(False, log)
        yield
    finally:
        for log, (verbosity, bars) in zip(libraries, kept, strict=True):
            log.set_verbosity(verbosity)
            switch(bars, log)


# Where bitsandbytes is installed, diffusers imports it, and it says which kernel a CPU lacks; it computes without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


@cache
def diffusers_library() -> Any:
    """diffusers, with the class of its pipelines imported: transformers says then which of its classes are faster with torchvision."""
    with quiet():
        import diffusers
        from diffusers import DiffusionPipeline as DiffusionPipeline
    return diffusers
