"""One run on several processes, as `accelerate launch` or `torchrun` starts them: each takes a share of every batch."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError, ExpungeWarning
from expunge.methods.base import Training
from expunge.storage.lock import alone_in, in_use

if TYPE_CHECKING:  # accelerate takes long to import, and a price does without
    from accelerate import Accelerator
    from accelerate.state import PartialState
    from accelerate.tracking import GeneralTracker

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}

PATIENCE = timedelta(days=1)
"""How long a process waits for another: the main process alone generates the images at the start."""


@contextmanager
def state_of_its_own() -> Iterator[None]:
    """accelerate keeps one state for the whole process: a run changes its precision, and a caller's own is as it was afterwards."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

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
    """The processes that share a run: this one alone, or those that `launched` finds.

    All processes must make the same calls here in the same order, or they wait for each other for ever. With one process each call
    returns what it was given.
    """

    def __init__(self, state: "PartialState | None" = None):
        self._state = state
        self.count: int = state.num_processes if state else 1
        self.rank: int = state.process_index if state else 0

    @classmethod
    def launched(cls, device: torch.device) -> "Processes":
        """The processes that a launcher started; this one alone if there was none. Use it within `state_of_its_own`."""
        from accelerate.state import AcceleratorState, PartialState

        # accelerate remembers the device of a process's first use and refuses others; a run's is its own.
        if PartialState._shared_state and PartialState().num_processes == 1:
            AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
        return cls(state if state.num_processes > 1 else None)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes, and shows how far things are."""
        return self.rank == 0

    def accelerator(self, dtype: str, device: torch.device) -> "Accelerator":
        """An accelerator of a run's own precision and device, whatever those of an earlier run in this process were.

        Raises:
            ExpungeError: fp16 on a CPU.
        """
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        if dtype == "fp16" and device.type == "cpu":
            raise half_on_cpu()
        AcceleratorState._reset_state(reset_partial_state=self.count == 1)
        return Accelerator(mixed_precision=PRECISIONS[dtype], cpu=device.type == "cpu")

    @contextmanager
    def tracked(
        self, names: Sequence[str], device: torch.device, folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """Starts trackers in the main process; within the context, a function that logs the values of a step to them.

        Args:
            names: of accelerate's trackers.
            device: of the run, which has its accelerator already.
            folder: of the run; TensorBoard writes into `tensorboard/` there, in several processes the main one alone.
            config: what each tracker shows as the configuration.
            settings: of each tracker by its name, other than its defaults.

        Raises:
            ExpungeError: a tracker cannot start.
        """
        from accelerate import Accelerator
        from accelerate.utils import ProjectConfiguration

        trackers: list[GeneralTracker] = []
        failure: Exception | None = None
        if names and self.is_main:
            # An accelerator of its own: the one that trains is the same with trackers and without.
            project = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "tensorboard"))
            accelerator = Accelerator(cpu=device.type == "cpu", log_with=list(names), project_config=project)
            try:
                accelerator.init_trackers("expunge", dict(config), dict(settings))
            except Exception as error:  # each package raises errors of its own
                failure = error
            trackers = accelerator.trackers
        if names and self.agree(failure is not None):
            raise ExpungeError(
                f"A tracker of {', '.join(names)} cannot start: {failure or 'the main process says why'}.",
                rule="tracker-failed",
                value=tuple(names),
                hint="Try its own log-in and its server's address, or leave --track out.",
            ) from failure

        def attempt(what: str, act: "Callable[[GeneralTracker], None]") -> None:
            for tracker in list(trackers):
                try:
                    act(tracker)
                except Exception as error:  # a server that is away for a minute must not end a run of hours
                    trackers.remove(tracker)
                    message = f"The tracker {tracker.name} failed {what} and logs no more: {error}"
                    warnings.warn(message, ExpungeWarning, stacklevel=3)

        try:
            yield lambda values, step: attempt(f"at step {step}", lambda tracker: tracker.log(dict(values), step=step))
        finally:  # not `end_training`, which ends the group of processes too
            attempt("at the end", lambda tracker: tracker.finish())

    def wait(self) -> None:
        """Waits for the slowest."""
        if self._state is not None:
            self._state.wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """A context that the others enter when the main process has left it."""
        with self._state.main_process_first() if self._state is not None else nullcontext():
            yield

    @contextmanager
    def alone_in(self, folder: Path) -> Iterator[None]:
        """The same as `storage.lock.alone_in`, for these processes together: the main one takes the lock, and all stop if it cannot.

        Raises:
            ExpungeError: another process is writing into the folder.
        """
        with ExitStack() as locks:
            refusal: ExpungeError | None = None
            if self.is_main:
                try:
                    locks.enter_context(alone_in(folder))
                except ExpungeError as error:
                    refusal = error
            if self.agree(refusal is not None):
                raise refusal or in_use(folder)
            yield

    def agree(self, value: bool) -> bool:
        """The main process's value."""
        if self._state is None:
            return value
        from accelerate.utils import broadcast

        return bool(broadcast(torch.tensor(value, device=self._state.device)))

    def same(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The main process's tensors. Every process has tensors of these names and shapes."""
        if self.count == 1:
            return dict(tensors)
        from accelerate.utils import broadcast

        return {name: broadcast(tensors[name]) for name in sorted(tensors)}

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the processes."""
        return tensor if self.count == 1 else _reduced(tensor, "mean")

    def total(self, number: int) -> int:
        """The sum over the processes."""
        return number if self._state is None else int(_reduced(torch.tensor(number, device=self._state.device), "sum"))


def _reduced(tensor: Tensor, by: str) -> Tensor:
    from accelerate.utils import reduce

    return reduce(tensor, by)


def installed_trackers() -> frozenset[str]:
    """Names of the trackers whose packages accelerate finds."""
    from accelerate.tracking import get_available_trackers

    return frozenset(map(str, get_available_trackers()))


def half_on_cpu() -> ExpungeError:
    """The error for training in fp16 on a CPU: neither loss scaling nor autocast exist for it there."""
    return ExpungeError(
        "A CPU does not train in fp16.", rule="fp16-on-cpu", value="fp16", hint="Try --dtype bf16 or fp32, or --device cuda."
    )


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
