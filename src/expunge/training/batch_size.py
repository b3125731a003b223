"""How many images are sampled at once: the number with which a device is fastest, found once and kept."""

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

import psutil
import torch

from expunge.diffusion.types import Cond, Point
from expunge.errors import ExpungeError
from expunge.models.base import DiffusionModel
from expunge.storage.cache import Store
from expunge.storage.hashing import digest

RenderBatch: TypeAlias = int | Literal["auto"] | None
"""A number; "auto", the number with which the device is fastest; None, that on accelerators, and on a CPU the caller's own number."""

ACCELERATORS = ("cuda", "mps", "xpu")
LARGEST = 256
"""Images at which the search ends."""
FASTER = 1.05
"""A larger batch must be faster by this factor, or it only takes memory."""
ROOM = 0.5
"""The share of the memory of a CPU that was free before, which a batch may take."""


def refuse_batch(batch: RenderBatch) -> None:
    """Refuses what is no number of images.

    Raises:
        ExpungeError: rule "render-batch".
    """
    if batch is not None and batch != "auto" and not (isinstance(batch, int) and batch > 0):
        raise ExpungeError(
            f"{batch!r} images cannot be sampled at once.",
            rule="render-batch",
            value=batch,
            hint='Try a whole number above 0, or "auto".',
        )


def batch_of(model: DiffusionModel, cache: Store, given: RenderBatch, usual: int) -> int:
    """The images that are sampled at once.

    Without a number, embedded models and models on a CPU have the `usual` one, so that equal commands give equal images: a measured
    number depends on what else a machine does, and on a CPU larger batches gain little.
    """
    if isinstance(given, int):
        return given
    is_measured = given == "auto" or (model.device.type in ACCELERATORS and model.defaults.folder is None)
    # A cost estimate has another network in its place, or one without weights.
    is_real = hasattr(model.network, "config") and not next(model.network.parameters()).is_meta
    return found(model, cache) if is_measured and is_real else usual


def found(model: DiffusionModel, cache: Store) -> int:
    """The batch with which this device samples this architecture fastest, from the cache if it was measured before."""
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    network = model.rendering[model.network_part], model.rendering["dtype"], model.latent_shape
    key = digest("render batch", type(model.network).__name__, *network, device, torch.get_num_threads(), torch.__version__)
    if (kept := cache.get(key)) is None:
        before = psutil.virtual_memory().available if model.device.type == "cpu" else 0
        kept = {"batch": torch.tensor(largest_fast(lambda n: seconds_of(model, n), lambda: _fits_twice(before)))}
        cache.put(key, kept)
    return int(kept["batch"])


def largest_fast(seconds: Callable[[int], float], fits_twice: Callable[[], bool] = lambda: True) -> int:
    """The number of images, among powers of 2, at which the search finds most images a second.

    Args:
        seconds: the time of a batch of that many images. It raises an error that `is_out_of_memory` where they do not fit.
        fits_twice: whether twice as many images as last may be tried.

    >>> largest_fast(lambda n: max(1.0, n / 8))
    8
    """
    best, speed, n = 1, 0.0, 1
    while n <= LARGEST:
        try:
            now = n / seconds(n)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            break
        if now < FASTER * speed:
            break
        best, speed = n, now
        if not fits_twice():
            break
        n *= 2
    return best


@torch.no_grad()
def seconds_of(model: DiffusionModel, images: int) -> float:
    """The time of one step of sampling that many images under guidance, and of decoding them, after one for warming up."""
    both = Cond.cat([model.null(images), model.null(images)])
    x = torch.zeros(2 * images, *model.latent_shape, device=model.device)
    t = model.path.times(torch.full((2 * images,), 0.5)).to(model.device)
    point = Point(x, t, both, ("",) * (2 * images))
    taken = 0.0
    for _ in range(2):
        began = time.perf_counter()
        model.predict(point).sum().item()  # waits for the device
        taken = time.perf_counter() - began
    model.decode(x[:images])  # must fit too
    return taken


def _fits_twice(before: int) -> bool:
    """Whether the memory that a CPU has left allows a batch of twice the size. `before` is 0 on other devices, which say so themselves."""
    return not before or before - psutil.virtual_memory().available < ROOM * before / 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is not enough, on any device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory")
    )
