"""What a run has cost so far, over all the attempts that it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass
class Count:
    """Samples that have passed a network. Guidance passes each twice: with its prompt and without."""

    samples: int = 0


@contextmanager
def counted(net: nn.Module) -> Iterator[Count]:
    """Counts what passes `net`, whoever calls it and under whatever weights, for as long as the context lasts.

    What gradient checkpointing computes again is not counted: it is a part of the backward pass.
    """
    count = Count()

    def see(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        count.samples += len(arguments[0])

    hook = net.register_forward_pre_hook(see)
    try:
        yield count
    finally:
        hook.remove()


@dataclass
class Spent:
    """Forwards and seconds of a run. A checkpoint keeps them, so that those of a killed attempt up to it are not forgotten."""

    forwards: Count = field(default_factory=Count)
    began: float = field(default_factory=time.monotonic)
    earlier: float = 0.0
    """Seconds of earlier attempts."""

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.began
