"""How fast a device is, measured once by small probes and kept in the cache."""

import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import nn

from expunge.errors import ExpungeWarning
from expunge.models.passes import Work, counting
from expunge.models.quiet import quiet
from expunge.progress import Progress
from expunge.storage.cache import Store
from expunge.storage.files import write_json
from expunge.storage.hashing import digest

PATIENCE, PATIENCE_IF_BUSY = 0.12, 0.5
"""Seconds that each probe is repeated for; its fastest try counts, for others may share the machine."""

BUSY = 0.25
"""Share of all cores from which on what other programs use makes the speed of a CPU another one."""

LOOK = 0.1
"""Seconds in which that share is measured."""


@dataclass(frozen=True)
class _Stopwatch:
    """How probes are timed."""

    now: Callable[[], float]
    patience: float


@dataclass(frozen=True)
class Speed:
    """Rates in a second."""

    narrow: float
    """Floating-point operations of a convolution of few channels."""
    wide: float
    """Of one of many."""
    matmul: float
    """Of a matrix product."""
    octets: float
    """Bytes that an addition reads and writes."""
    operations: float
    """Operations on tensors so small that only starting them takes time."""
    share: float = 1.0
    """What a whole network reaches of these rates: its tensors are not in the processor's caches, and its layers have many sizes."""
    is_busy: bool = False
    """Whether other programs kept the CPU busy when it was measured. The rates are then those of one core that has nothing else to do."""

    def seconds(self, work: Work) -> float:
        """How long the work takes, one operation after another."""
        computing = work.narrow / self.narrow + work.wide / self.wide + work.matmul / self.matmul + work.octets / self.octets
        return (computing + work.operations / self.operations) / self.share


def speed_of(device: torch.device, dtype: torch.dtype, progress: Progress | None = None) -> Speed:
    """The speed of a device in a precision, as kept, or measured in a few seconds. What was measured on a busy machine is measured again as
    soon as the machine is idle; until then a warning says that it is the speed of one core."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.processor() or platform.machine()}"
    named = name, str(dtype), torch.__version__, torch.get_num_threads() if device.type == "cpu" else 0
    file = Store.default().root / "speeds" / f"{digest('speed', *named)}.json"
    found = _kept(file)
    if found is None or found.is_busy:
        is_busy = device.type == "cpu" and _is_busy()
        if found is None or not is_busy:
            with (progress or Progress.default()).task("measuring the speed of the device, once", 1) as task:
                found = measure(device, dtype, is_busy)
                task.advance()
            write_json(file, asdict(found))
    if found.is_busy:
        message = "Other programs keep the CPU busy, so times are estimated for one of its cores."
        warnings.warn(message, ExpungeWarning, stacklevel=2)
    return found


def _kept(file: Path) -> Speed | None:
    try:
        return Speed(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_busy() -> bool:
    """Whether other programs use so much of the CPU now that probes on all cores would measure them too."""
    return psutil.cpu_percent(LOOK) / 100 > BUSY


@torch.no_grad()
def measure(device: torch.device, dtype: torch.dtype, is_busy: bool = False) -> Speed:
    """Times a convolution and a matrix product of the sizes that image models have, an addition, a chain of tiny layers, and then a small
    U-Net, which shows what share of these rates a network reaches.

    Args:
        is_busy: whether other programs use the cores, so that the threads of a probe wait for each other. One thread is then timed, by the
            seconds of its processor.
    """
    if not is_busy:
        return _measure(device, dtype, _Stopwatch(time.perf_counter, PATIENCE))
    with _one_thread():
        return replace(_measure(device, dtype, _Stopwatch(time.process_time, PATIENCE_IF_BUSY)), is_busy=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(device: torch.device, dtype: torch.dtype, watch: _Stopwatch) -> Speed:
    # An accelerator needs more work at once before it is busy.
    side, rows = (16, 512) if device.type == "cpu" else (128, 16384)
    left, right = (torch.randn(shape, device=device, dtype=dtype) for shape in ((rows, 640), (640, 640)))
    long = torch.randn(2**22, device=device, dtype=dtype)
    tiny = torch.randn(1, 8, 2, 2, device=device, dtype=dtype)
    chain = nn.Sequential(*[nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 1)] * 16).to(device, dtype)
    rates = Speed(
        _convolving(64, side, device, dtype, watch),
        _convolving(640, side, device, dtype, watch),
        2.0 * rows * 640 * 640 / _seconds(lambda: left @ right, device, watch),
        3.0 * long.numel() * long.element_size() / _seconds(lambda: long + long, device, watch),
        len(chain) / _seconds(lambda: chain(tiny), device, watch),
    )
    network = _brought(_network(), device, dtype)
    given = (
        torch.randn(2, 4, 16, 16, device=device, dtype=dtype),
        torch.tensor(500, device=device),
        torch.randn(2, 16, 128).to(device, dtype),
    )
    with torch.device("meta"):
        sketch, shapes = _network(), tuple(torch.empty_like(x, device="meta") for x in given)
    _brought(sketch, torch.device("meta"), dtype)
    with counting((*sketch.parameters(), *sketch.buffers(), *shapes)) as work:
        sketch(*shapes)
    return replace(rates, share=min(1.0, rates.seconds(work.work) / _seconds(lambda: network(*given), device, watch)))


def _brought(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with quiet():  # diffusers warns of a cast that it would have made itself
        return network.to(device, dtype).eval()


def _network() -> nn.Module:
    """A U-Net with the layers of those that make images, of 10 million random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=8,
    )


def _convolving(channels: int, side: int, device: torch.device, dtype: torch.dtype, watch: _Stopwatch) -> float:
    """Floating-point operations in a second of a 3x3 convolution, laid out as images are."""
    image = torch.randn(1, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
    layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
    return 2.0 * channels * channels * 9 * side**2 / _seconds(lambda: layer(image), device, watch)


def _seconds(action: Callable[[], object], device: torch.device, watch: _Stopwatch) -> float:
    def timed() -> float:
        began = watch.now()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return watch.now() - began

    timed()  # the first takes longer
    fastest, until = timed(), watch.now() + watch.patience
    while watch.now() < until:
        fastest = min(fastest, timed())
    return max(fastest, 1e-9)
