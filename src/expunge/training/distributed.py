"""One run on several processes, as `accelerate launch` or `torchrun` starts them: each takes a share of every batch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import broadcast, reduce
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.methods.base import Training

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}

PATIENCE = timedelta(days=1)
"""How long a process waits for another: all the pictures at the start are made by the main one."""


@contextmanager
def state_of_its_own() -> Iterator[None]:
    """accelerate keeps one state for the whole process: a run changes its precision, and a caller's own is as it was afterwards."""
    shared = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, kept in zip(shared, before, strict=True):
            if kept or not torch.distributed.is_initialized():  # several processes that a run has joined stay together
                state.clear()
                state.update(kept)


class Processes:
    """The processes of a run: one, unless a launcher started several.

    Every process comes to every call here, in the same order, or the others wait for it in vain. With one process each call gives
    back what it was given.
    """

    def __init__(self, device: torch.device):
        # accelerate remembers the device of a process's first use and refuses others; a run's is its own.
        if PartialState._shared_state and PartialState().num_processes == 1:
            AcceleratorState._reset_state(reset_partial_state=True)
        self._state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
        self.count: int = self._state.num_processes
        self.rank: int = self._state.process_index

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes, and shows how far things are."""
        return self.rank == 0

    def accelerator(self, dtype: str) -> Accelerator:
        """Of a run's own precision, whatever that of an earlier run in this process was."""
        AcceleratorState._reset_state()
        return Accelerator(mixed_precision=PRECISIONS[dtype], cpu=self._state.device.type == "cpu")

    def wait(self) -> None:
        """For the slowest."""
        self._state.wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The others enter when the main process has left."""
        with self._state.main_process_first():
            yield

    def told(self, value: bool) -> bool:
        """What the main process says."""
        return bool(broadcast(torch.tensor(value, device=self._state.device))) if self.count > 1 else value

    def same(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the main process; every process has tensors of these names and shapes."""
        return {name: broadcast(tensors[name]) for name in sorted(tensors)} if self.count > 1 else dict(tensors)

    def mean(self, tensor: Tensor) -> Tensor:
        """Over the processes."""
        return reduce(tensor, "mean") if self.count > 1 else tensor

    def total(self, number: int) -> int:
        """Over the processes."""
        return int(reduce(torch.tensor(number, device=self._state.device), "sum")) if self.count > 1 else number


def refuse_uneven(training: Training, count: int) -> None:
    """Refuses a batch that does not fall into as many equal parts as there are processes, times `accumulate`.

    Raises:
        ExpungeError: it does not; the mean of the processes' gradients would not be the batch's.
    """
    if training.batch_size % (training.accumulate * count):
        raise ExpungeError(
            f"A batch of {training.batch_size} does not fall into equal parts for {count} processes with accumulate "
            f"{training.accumulate} each.",
            rule="uneven-batch",
            value=training.batch_size,
            hint=f"Try a --batch-size that is a multiple of {training.accumulate * count}, or another number of processes.",
        )
