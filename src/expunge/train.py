"""The loop: a generator of steps. Progress bars, logs and early stopping belong to the caller's `for`."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from expunge.cache import read_tensors, write_tensors
from expunge.data import Batches
from expunge.objective import Objective, Training
from expunge.types import ExpungeError, Models, Step
from expunge.weights import Memo, Reference, Student, TrainState

CHECKPOINT = "checkpoint.safetensors"

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def _accelerator(device: torch.device, dtype: str) -> Accelerator:
    # accelerate remembers the precision and device of a process's first Accelerator and refuses others; a run's are its own.
    if AcceleratorState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=PRECISIONS[dtype], cpu=device.type == "cpu")


class NonFiniteLoss(ExpungeError):
    """The loss became infinite or NaN. The last good weights are in place and in the checkpoint."""


class Trainer:
    """A run's training state, which may be interrupted between any two steps, by any means."""

    def __init__(
        self,
        method: Objective,
        training: Training,
        batches: Batches,
        state: TrainState,
        memo: Memo,
        folder: Path | None = None,
        dtype: str = "fp32",
    ):
        self.method, self.training, self.batches, self.state, self.memo, self.folder = method, training, batches, state, memo, folder
        self.accelerator = _accelerator(batches.denoiser.device, dtype)
        batches.denoiser.autocast = self.accelerator.autocast
        self.student, self.reference = Student(batches.denoiser), Reference(batches.denoiser, state, memo)
        self.optimizer = self.accelerator.prepare(torch.optim.Adam(state.trained.values(), lr=training.lr))
        self.steps_done = self._resume()

    def fit(self) -> Iterator[Step]:
        """Trains from where it stands to `training.steps`, yielding after each step.

        Raises:
            NonFiniteLoss: at the first loss that is not finite, before it touches the weights.
        """
        training, models = self.training, Models(self.student, self.reference)
        while self.steps_done < training.steps:
            step = self.steps_done
            terms = self._descend(models, step)
            self.steps_done = step + 1
            if self.steps_done % training.checkpoint_every == 0 or self.steps_done == training.steps:
                self.save()
            yield Step(self.steps_done, training.steps, *terms)

    def _descend(self, models: Models, step: int) -> tuple[dict[str, float], float]:
        parts = self.batches.split(step, self.training.accumulate)
        logged: dict[str, Tensor] = {}
        for batch in parts:
            terms = self.method(models, batch)
            for name, value in terms.items():
                logged[name] = logged.get(name, torch.zeros((), device=value.device)) + value.detach() / len(parts)
            self.accelerator.backward(sum(terms.values()) / len(parts))
        # One look at the device for all numbers of the step: each .item() would wait for it.
        names, values = list(logged), torch.stack(list(logged.values())).tolist()
        if not all(abs(v) < float("inf") for v in values):
            self.optimizer.zero_grad(set_to_none=True)
            self.save()
            bad = ", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True))
            raise NonFiniteLoss(f"a loss is finite: at step {step + 1} {bad}; the weights of step {step} are kept; lower --lr or use fp32")
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.lr * self._share(step)
        norm = self.accelerator.clip_grad_norm_(self.state.trained.values(), self.training.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return dict(zip(names, values, strict=True)), float(norm)

    def _share(self, step: int) -> float:
        """Of the learning rate, at a step."""
        done = step / self.training.steps
        return 1.0 if self.training.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))

    # --- checkpoints: one file renamed into place, and the reference rows that it relies on ------------------------------

    def save(self) -> None:
        """Writes what resuming needs. Reference rows go first, into a file of their own: the checkpoint that counts on them follows."""
        if self.folder is None:
            return
        if fresh := self.memo.take():
            rows = {f"{point}\n{prompt}": value for (point, prompt), value in fresh.items()}
            write_tensors(self.folder / "reference" / f"{self.steps_done:06d}.safetensors", rows)
        tensors: dict[str, Tensor] = {f"weight.{n}": p for n, p in self.state.trained.items()}
        for name, parameter in self.state.trained.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = torch.as_tensor(value)
        write_tensors(self.folder / CHECKPOINT, tensors | {"steps_done": torch.tensor(self.steps_done)})

    def _resume(self) -> int:
        if self.folder is None or not (self.folder / CHECKPOINT).exists():
            return 0
        tensors = read_tensors(self.folder / CHECKPOINT)
        self.state.load({n.removeprefix("weight."): v for n, v in tensors.items() if n.startswith("weight.")})
        steps_done = int(tensors["steps_done"])
        for name, parameter in self.state.trained.items():
            keys = [k for k in ("step", "exp_avg", "exp_avg_sq") if f"adam.{k}.{name}" in tensors]
            self.optimizer.state[parameter] = {k: tensors[f"adam.{k}.{name}"].to("cpu" if k == "step" else parameter.device) for k in keys}
        for file in sorted((self.folder / "reference").glob("*.safetensors")):
            if int(file.stem) <= steps_done:
                self.memo.rows.update({(k.split("\n")[0], k.split("\n")[1]): v for k, v in read_tensors(file).items()})
        return steps_done
