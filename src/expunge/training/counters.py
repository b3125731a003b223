"""What a run has cost so far, over all attempts and processes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.training.distributed import Processes
from expunge.training.networks import Student


@dataclass
class Count:
    """Samples that have passed a network. Guidance passes each twice: with its prompt and without."""

    samples: int = 0


@contextmanager
def counted(net: nn.Module) -> Iterator[Count]:
    """Counts the samples that pass through `net`, from every caller and under all weights, for as long as the context lasts.

    What gradient checkpointing computes again is not counted: it is a part of the backward pass.
    """
    count = Count()

    def see(module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        count.samples += len(next(iter((*arguments, *named.values()))))  # latents come first, by position or by name

    hook = net.register_forward_pre_hook(see, with_kwargs=True)
    try:
        yield count
    finally:
        hook.remove()


@dataclass
class Spent:
    """Forwards and seconds of a run in this process. `earlier` are the seconds of attempts before this one."""

    forwards: Count = field(default_factory=Count)
    began: float = field(default_factory=time.monotonic)
    earlier: float = 0.0

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.began


class Costs:
    """What training has cost in all processes. A checkpoint keeps it, so that it includes what killed attempts did before theirs."""

    def __init__(self, spent: Spent, student: Student, processes: Processes):
        self.spent, self.student, self.processes = spent, student, processes

    @property
    def forwards(self) -> int:
        """Samples that passed the network."""
        return self.processes.total(self.spent.forwards.samples)

    @property
    def backwards(self) -> int:
        """Samples that passed the student with gradient."""
        return self.processes.total(self.student.with_gradient)

    def state_dict(self) -> dict[str, Tensor]:
        """The part of a checkpoint: `spent`, holding forwards, backwards and seconds."""
        return {"spent": torch.tensor([self.forwards, self.backwards, self.spent.seconds], dtype=torch.float64)}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores `state_dict`: the main process continues the counts of all."""
        if self.processes.is_main:
            forwards, backwards, self.spent.earlier = tensors["spent"].tolist()
            self.spent.forwards.samples += int(forwards)
            self.student.with_gradient += int(backwards)
