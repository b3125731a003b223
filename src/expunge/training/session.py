"""What every computation works with: made once by a public function and handed on."""

from dataclasses import dataclass, field
from pathlib import Path

from expunge.models.base import DiffusionModel
from expunge.models.loading import Model, load
from expunge.models.outline import outline
from expunge.progress import Progress
from expunge.storage.cache import Store
from expunge.training.batch_size import RenderBatch, refuse_batch
from expunge.training.distributed import Processes
from expunge.training.workers import Workers


@dataclass(frozen=True)
class Session:
    """A model and its surroundings: where results are cached, what shows progress, which processes share the work."""

    model: DiffusionModel
    cache: Store
    progress: Progress
    distributed: Processes = field(default_factory=Processes)
    render_batch: RenderBatch = None
    """Images that are sampled at once; see `RenderBatch`. Larger is faster on an accelerator and needs more memory; the last digits of an
    image depend on it."""
    workers: Workers | None = None
    """Further processes that take part in sampling images."""
    trackers: tuple[str, ...] = ()
    """Names of the experiment trackers that training is logged to; results do not depend on them."""
    is_compiled: bool = False
    """Whether the network is compiled, which changes the last digits of an image."""

    def __post_init__(self) -> None:
        refuse_batch(self.render_batch)

    @classmethod
    def open(
        cls,
        model: Model,
        *,
        device: str = "auto",
        dtype: str | None = None,
        quantization: str | None = None,
        cache: Store | str | Path | None = None,
        progress: Progress | None = None,
        render_batch: RenderBatch = None,
        weights: bool = True,
    ) -> "Session":
        """Loads a model and fills in defaults, the same in Python and on the command line.

        Args:
            model: "canvas", a diffusers folder, a hub id, a pipeline in memory or a loaded model. The last two stay on their device and
                in their precision.
            device: of what is loaded; "auto" takes the fastest one there is.
            dtype: of what is loaded: "fp32" (the default), "bf16" or "fp16".
            quantization: of what is loaded: how the network's linear layers are stored, "nf4" or "int8".
            cache: a folder or a store; default `Store.default()`.
            progress: default `Progress.default()`.
            render_batch: images that are sampled at once.
            weights: whether a model that is named is loaded. Without, it has its configurations alone, for an estimate of costs.

        Raises:
            ExpungeError: the model cannot be loaded.
        """
        shown, dtype = progress or Progress.default(), dtype or "fp32"
        loaded = load(model, device, dtype, quantization=quantization) if weights else outline(model, device, dtype, quantization, shown)
        store = Store(Path(cache)) if isinstance(cache, str | Path) else cache or Store.default()
        return cls(loaded, store, shown, render_batch=render_batch)
